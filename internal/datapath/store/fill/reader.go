package fill

import (
	"context"
	"fmt"
	"io"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

// How is what a reader found.
type How string

// A blob was on disk; it came already; nobody had asked for it.
const (
	Hit    How = "hit"
	Joined How = "joined"
	Began  How = "began"
)

// Reader reads one blob from a place on. It is for one goroutine.
type Reader struct {
	ctx    context.Context // of the client: it ends the reader, and nothing else
	digest string
	how    How
	size   int64
	at, to int64
	there  int64 // before it all bytes can be read; the size only when they are right

	file    io.ReaderAt
	coming  *coming       // nil for a whole blob
	wake    chan struct{} // holds one; made when it waits first
	release func() error
}

// How is what it found.
func (r *Reader) How() How { return r.how }

// Size is that of the whole blob, in bytes.
func (r *Reader) Size() int64 { return r.size }

// Source is where what comes is from; nil for a whole blob.
func (r *Reader) Source() Source {
	if r.coming == nil {
		return nil
	}
	return r.coming.source
}

// At is the byte that is next. After an error the caller goes on from there elsewhere.
func (r *Reader) At() int64 { return r.at }

// EndAt makes the reader end before a place. A part that does not hold the last byte does
// not wait for the digest to be right: that is the promise of whole blobs.
func (r *Reader) EndAt(to int64) { r.to = max(0, min(to, r.size)) }

// Read waits for bytes that are to come, as long as the context of the client.
func (r *Reader) Read(b []byte) (int, error) {
	if r.there < r.size && r.at >= r.there && (r.at < r.to || r.size == 0) {
		there, err := r.coming.await(r)
		if err != nil {
			return 0, r.failed(err)
		}
		r.there = there
	}
	if r.at >= r.to {
		return 0, io.EOF
	}
	n, err := r.file.ReadAt(b[:min(int64(len(b)), r.there-r.at, r.to-r.at)], r.at)
	r.at += int64(n)
	if n > 0 || len(b) == 0 {
		return n, nil // an error comes again with the next Read
	}
	if r.coming != nil && r.coming.failure() != nil {
		err = r.coming.failure() // it closed the file
	} else {
		err = fmt.Errorf("%w: %w", ErrNoStore, oci.NotTheEnd(err))
	}
	return 0, r.failed(err)
}

// Close lets go of the blob. What comes goes on.
func (r *Reader) Close() error {
	release := r.release
	if r.release = nil; release == nil {
		return nil
	}
	return release()
}

func (r *Reader) failed(err error) error {
	return fmt.Errorf("blob %s at byte %d: %w", r.digest, r.at, err)
}
