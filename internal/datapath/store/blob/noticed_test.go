package blob_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// TestCrashesAreNoticed: the same tests fail for a store that leaves something out.
func TestCrashesAreNoticed(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		broken
		scenario string
		want     string
	}{
		"the name before the bytes are on disk": {broken{wrap: func(f disk.FS) disk.FS { return &lateSync{FS: f} }, seeds: 10}, "fill and commit", "wrong:"},
		"no SyncDir":                            {broken{wrap: func(f disk.FS) disk.FS { return noSyncDir{f} }, seeds: 10}, "fill and commit", "lost:"},
		"partials of another boot are kept":     {broken{sameBoot: true, seeds: 10}, "keep for later", "not as sent:"},
		"bytes noted before they are written":   {broken{wrap: func(f disk.FS) disk.FS { return lateWrites{f} }}, "keep for later", "not as sent:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := scenarios()
			sc := all[slices.IndexFunc(all, func(sc scenario) bool { return sc.name == row.scenario })]
			problems, _ := matrix(t, sc, row.broken)
			if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, row.want) }) {
				t.Errorf("nobody notices: %q", problems)
			}
		})
	}
}

// lateSync syncs files only after their rename, with their folder.
type lateSync struct {
	disk.FS
	files []disk.File
}

func (l *lateSync) Create(name string) (disk.File, error) {
	f, err := l.FS.Create(name)
	return lateFile{f, l}, err
}

func (l *lateSync) Edit(name string) (disk.File, error) {
	f, err := l.FS.Edit(name)
	return lateFile{f, l}, err
}

func (l *lateSync) SyncDir(name string) error {
	for _, f := range l.files {
		if err := f.Sync(); err != nil && errors.Is(err, disktest.ErrKilled) {
			return err
		}
	}
	l.files = nil
	return l.FS.SyncDir(name)
}

type lateFile struct {
	disk.File
	l *lateSync
}

func (f lateFile) Sync() error { f.l.files = append(f.l.files, f.File); return nil }

type noSyncDir struct{ disk.FS }

func (noSyncDir) SyncDir(string) error { return nil }

// lateWrites says of the bytes of partials that they are written one write too early.
type lateWrites struct{ disk.FS }

func (l lateWrites) Create(name string) (disk.File, error) {
	f, err := l.FS.Create(name)
	if err != nil || strings.Contains(name, ".json") {
		return f, err
	}
	return &lateWriter{File: f}, nil
}

type lateWriter struct {
	disk.File
	data []byte
	at   int64
}

func (f *lateWriter) flush() error {
	data := f.data
	f.data = nil
	if data == nil {
		return nil
	}
	_, err := f.File.WriteAt(data, f.at)
	return err
}

func (f *lateWriter) WriteAt(b []byte, at int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	f.data, f.at = slices.Clone(b), at
	return len(b), nil
}

func (f *lateWriter) ReadAt(b []byte, at int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

func (f *lateWriter) Sync() error { return errors.Join(f.flush(), f.File.Sync()) }

func (f *lateWriter) Close() error { return errors.Join(f.flush(), f.File.Close()) }
