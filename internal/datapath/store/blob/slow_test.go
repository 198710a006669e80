package blob_test

import (
	"strings"
	"sync/atomic"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// slowFS hangs once in the next operation of one kind on a partial, until on is closed.
type slowFS struct {
	disk.FS
	hangs  atomic.Pointer[string]
	at, on chan struct{}
}

func (s *slowFS) Create(name string) (disk.File, error) {
	f, err := s.FS.Create(name)
	if err != nil || !strings.HasPrefix(name, "partial/") || strings.Contains(name, ".json") {
		return f, err
	}
	return slowFile{f, s}, nil
}

func (s *slowFS) hang(kind string) {
	if now := s.hangs.Load(); now != nil && *now == kind {
		s.at <- struct{}{}
		<-s.on
	}
}

type slowFile struct {
	disk.File
	s *slowFS
}

func (f slowFile) ReadAt(b []byte, at int64) (int, error) {
	f.s.hang("read")
	return f.File.ReadAt(b, at)
}

func (f slowFile) WriteAt(b []byte, at int64) (int, error) {
	f.s.hang("write")
	return f.File.WriteAt(b, at)
}

func (f slowFile) Sync() error {
	f.s.hang("sync")
	return f.File.Sync()
}
