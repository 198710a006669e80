package blob_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// content is some bytes that differ from place to place.
func content(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16)
	}
	return b
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// open is a store in a folder of the machine, until it is closed or the test ends.
func open(t *testing.T, path, boot string) *blob.Store {
	t.Helper()
	folder, err := disk.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := blob.Open(t.Context(), folder, blob.Options{Boot: boot})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), folder.Close() })
	return s
}

// put makes a blob whole.
func put(t *testing.T, s *blob.Store, digest string, data []byte) {
	t.Helper()
	p := begin(t, s, digest, len(data))
	_, err := p.WriteAt(data, 0)
	if err := errors.Join(err, p.Verify(), p.Commit(), p.Close()); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, s *blob.Store, digest string, size int) *blob.Partial {
	t.Helper()
	p, err := s.Begin(digest, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// get is the bytes of a whole blob.
func get(t *testing.T, s *blob.Store, digest string) []byte {
	t.Helper()
	b, err := s.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWhole: what was committed is there, for the next process too, and cannot be written.
func TestWhole(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s := open(t, path, "a")
	small, large := content(10), content(300_000)
	all := map[string][]byte{
		digestOf(nil): nil, digestOf(small): small, digestOf(large): large,
		fmt.Sprintf("sha512:%x", sha512.Sum512(large)): large,
	}
	for digest, data := range all {
		put(t, s, digest, data)
	}
	for range 2 {
		for digest, data := range all {
			if info, ok := s.Stat(digest); !ok || info != (blob.Info{Digest: digest, Size: int64(len(data))}) {
				t.Errorf("%s: %v, %v", digest, info, ok)
			}
			if !bytes.Equal(get(t, s, digest), data) {
				t.Errorf("%s: other bytes", digest)
			}
			info, err := os.Stat(filepath.Join(path, "blobs", strings.Replace(digest, ":", "/", 1)))
			if err != nil || info.Mode() != 0o444 {
				t.Errorf("%s: %v, %v", digest, info.Mode(), err)
			}
			if _, err := s.Begin(digest, int64(len(data))); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: begun again: %v", digest, err)
			}
		}
		if len(s.Blobs()) != len(all) || len(s.Partials()) != 0 {
			t.Errorf("%v are there, %v come", s.Blobs(), s.Partials())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, "b")
	}
}
