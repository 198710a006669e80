package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// Blob is a whole one that is read. It can be removed meanwhile.
type Blob struct {
	info Info
	turn uint64
	file disk.File
}

// damagedError is ErrDamaged, with which of the blobs of a digest that came one after the other it is.
type damagedError struct {
	digest string
	turn   uint64 // 0 where it was not whole
	why    error
}

func damaged(digest string, turn uint64, why error) error {
	return &damagedError{digest, turn, fmt.Errorf("%s: %w: %w", digest, ErrDamaged, oci.NotTheEnd(why))} // of a file that is too short
}

func (e *damagedError) Error() string { return e.why.Error() }
func (e *damagedError) Unwrap() error { return e.why }

// Open opens a whole blob. fs.ErrNotExist: there is none.
func (s *Store) Open(digest string) (*Blob, error) {
	w, ok := s.look(digest)
	if !ok {
		return nil, fs.ErrNotExist
	}
	f, err := s.fsys.Open(blobName(digest))
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed meanwhile, or by hand
		s.missed(digest)
		return nil, err
	case ofTheProcess(err):
		return nil, fmt.Errorf("opening %s: %w", digest, err)
	case err != nil:
		return nil, damaged(digest, w.turn, fmt.Errorf("opening it: %w", err))
	}
	return &Blob{Info{digest, w.size}, w.turn, f}, nil
}

// ofTheProcess reports whether a failure to open a file says nothing about it.
func ofTheProcess(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

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
	return n, damaged(b.info.Digest, b.turn, fmt.Errorf("reading it at %d: %w", at+int64(n), err))
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
	switch {
	case errors.Is(err, ErrDigest):
		err = errors.Join(err, s.remove(digest, b.turn))
	case errors.Is(err, ErrDamaged):
		err = errors.Join(err, s.RemoveDamaged(err))
	default:
		return err
	}
	s.log.Error("a blob is damaged and is taken out", "digest", digest, "error", err)
	return err
}

func (s *Store) scrub(ctx context.Context, b *Blob, pace func(ctx context.Context, n int) error) error {
	buffer := s.chunks.Get().(*[]byte)
	defer s.chunks.Put(buffer)
	sum := NewHash(b.info.Digest)
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
	if !HasDigest(sum, b.info.Digest) {
		return fmt.Errorf("scrubbing %s: %w", b.info.Digest, ErrDigest)
	}
	return nil
}
