package blob_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// part is what a fill writes, and a reader reads, at once.
const part = 32 << 10

func benchStore(b *testing.B, path string) *blob.Store {
	b.Helper()
	folder, err := disk.OpenFolder(path)
	if err != nil {
		b.Fatal(err)
	}
	s, err := blob.Open(b.Context(), folder, blob.Options{Boot: "a"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _, _ = s.Close(), folder.Close() })
	return s
}

// large is a blob of that many bytes, of one repeated part.
func large(size int64) (digest string, piece []byte) {
	piece = content(part)
	sum := sha256.New()
	for range size / part {
		_, _ = sum.Write(piece)
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), piece
}

func fillLarge(b *testing.B, s *blob.Store, digest string, piece []byte, size int64) {
	p, err := s.Begin(digest, size)
	if err != nil {
		b.Fatal(err)
	}
	for at := int64(0); at < size; at += part {
		if _, err := p.WriteAt(piece, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(p.Verify(), p.Commit(), p.Close()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkFill is the whole way of a blob of 256 MiB to the disk: written, hashed, committed.
func BenchmarkFill(b *testing.B) {
	const size = 256 << 20
	s := benchStore(b, b.TempDir())
	digest, piece := large(size)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		fillLarge(b, s, digest, piece, size)
		if err := s.Remove(digest); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead is 256 MiB of a whole blob.
func BenchmarkRead(b *testing.B) {
	const size = 256 << 20
	s := benchStore(b, b.TempDir())
	digest, piece := large(size)
	fillLarge(b, s, digest, piece, size)
	buffer := make([]byte, part)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.Open(digest)
		if err != nil {
			b.Fatal(err)
		}
		for at := int64(0); at < size; at += part {
			if _, err := r.ReadAt(buffer, at); err != nil {
				b.Fatal(err)
			}
		}
		_ = r.Close()
	}
}

// BenchmarkReadPartial is one part of what is coming, for as many readers as there are CPUs.
func BenchmarkReadPartial(b *testing.B) {
	const size = 16 << 20
	s := benchStore(b, b.TempDir())
	digest, piece := large(size)
	p, err := s.Begin(digest, size)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	for at := int64(0); at < size/2; at += part {
		if _, err := p.WriteAt(piece, at); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(part)
	b.RunParallel(func(pb *testing.PB) {
		buffer := make([]byte, part)
		for at := int64(0); pb.Next(); at = (at + part) % (size / 2) {
			if _, err := p.ReadAt(buffer, at); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkStart opens a store with 100,000 blobs.
func BenchmarkStart(b *testing.B) {
	path := b.TempDir()
	if err := benchStore(b, path).Close(); err != nil {
		b.Fatal(err)
	}
	for i := range 100_000 {
		name := filepath.Join(path, "blobs/sha256", fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, i))))
		if err := os.WriteFile(name, nil, 0o400); err != nil {
			b.Fatal(err)
		}
	}
	folder, err := disk.OpenFolder(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	b.ReportAllocs()
	for b.Loop() {
		s, err := blob.Open(b.Context(), folder, blob.Options{Boot: "a"})
		if err != nil {
			b.Fatal(err)
		}
		if n := len(s.Blobs()); n != 100_000 {
			b.Fatalf("%d blobs", n)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
