package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"syscall"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// Blob is a whole one that is read. It can be removed meanwhile.
type Blob struct {
	info Info
	file disk.File
}

// Open opens a whole blob. fs.ErrNotExist: there is none.
func (s *Store) Open(digest string) (*Blob, error) {
	info, ok := s.Stat(digest)
	if !ok {
		return nil, fs.ErrNotExist
	}
	f, err := s.fsys.Open(blobName(digest))
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile, or by hand
		s.missed(digest)
		return nil, err
	case slices.ContainsFunc(ofTheProcess(), func(why error) bool { return errors.Is(err, why) }):
		return nil, fmt.Errorf("opening %s: %w", digest, err)
	case err != nil:
		return nil, fmt.Errorf("opening %s: %w: %w", digest, ErrDamaged, err)
	}
	return &Blob{info, f}, nil
}

// ofTheProcess are failures to open a file that say nothing about it.
func ofTheProcess() []error { return []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} }

// missed forgets a blob whose file is gone, so that it can come again.
func (s *Store) missed(digest string) {
	s.moving.Lock()
	defer s.moving.Unlock()
	f, err := s.fsys.Open(blobName(digest))
	if err == nil {
		_ = f.Close() // it has come again
	} else if errors.Is(err, fs.ErrNotExist) {
		s.forget(digest)
	}
}

// Size is that of the blob, in bytes.
func (b *Blob) Size() int64 { return b.info.Size }

// Close lets go of it.
func (b *Blob) Close() error { return b.file.Close() }

// ReadAt implements io.ReaderAt. ErrDamaged: the disk failed, or has fewer bytes than before.
func (b *Blob) ReadAt(p []byte, at int64) (int, error) {
	n, err := b.file.ReadAt(p, at)
	if err == nil || errors.Is(err, fs.ErrClosed) || errors.Is(err, io.EOF) && at+int64(n) >= b.info.Size {
		return n, err
	}
	return n, fmt.Errorf("reading %s at %d: %w: %w", b.info.Digest, at+int64(n), ErrDamaged, err)
}

// Scrub reads a whole blob again. If it has another digest, or cannot be read, it is taken
// out, and the error is ErrDigest or ErrDamaged. Pace is called before so many bytes are
// read, and may end it.
func (s *Store) Scrub(ctx context.Context, digest string, pace func(ctx context.Context, n int) error) error {
	b, err := s.Open(digest)
	if err == nil {
		err = s.scrub(ctx, b, pace)
		_ = b.Close() // it was only read
	}
	if errors.Is(err, ErrDigest) || errors.Is(err, ErrDamaged) {
		s.log.Error("a blob is damaged and is taken out", "digest", digest, "error", err)
		err = errors.Join(err, s.Remove(digest))
	}
	return err
}

func (s *Store) scrub(ctx context.Context, b *Blob, pace func(ctx context.Context, n int) error) error {
	buffer := s.chunks.Get().(*[]byte)
	defer s.chunks.Put(buffer)
	sum := newHash(b.info.Digest)
	for at := int64(0); at < b.info.Size; {
		part := (*buffer)[:min(int64(len(*buffer)), b.info.Size-at)]
		if err := errors.Join(ctx.Err(), pace(ctx, len(part))); err != nil {
			return err
		}
		n, err := b.ReadAt(part, at)
		if n < len(part) {
			return err
		}
		_, _ = sum.Write(part) // a hash never fails
		at += int64(n)
	}
	if !hasDigest(sum, b.info.Digest) {
		return fmt.Errorf("scrubbing %s: %w", b.info.Digest, ErrDigest)
	}
	return nil
}
