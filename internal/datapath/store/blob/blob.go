// Package blob owns the bytes of a store on disk, by digest: whole ones, and those that
// are still coming.
//
//	oci-layout, blobs/<algorithm>/<hex>   whole ones: a valid OCI layout, for skopeo and others
//	partial/<algorithm>-<hex>             the bytes of one that is coming, at their places
//	partial/<algorithm>-<hex>.json        which of them are there, for the next process
//	trash/                                renamed first, then removed
//	store.json, lock                      format, boot; one process at a time
//
// A name under blobs/ is there only when all its bytes are on disk and have that digest:
// after kill -9 and after a power cut too. Nothing here knows HTTP, clocks, or how much
// may be kept. Start at Open, then Partial.
package blob

import "errors"

// ErrDigest is for bytes that are not what their digest says.
var ErrDigest = errors.New("the bytes have another digest")

// Info is a whole blob.
type Info struct {
	Digest string
	Size   int64
}

// Span are the bytes from From to before To.
type Span struct{ From, To int64 }

/*
type Options struct {
	// Boot names the run of the machine's kernel. Partials of another one are dropped: what
	// was not synced of them is gone, and nothing tells what.
	Boot string
	Log  *slog.Logger
}

// Open takes a folder, or makes it one: it removes what a process before it left half done.
// It fails with ErrInUse while another process has it.
func Open(ctx context.Context, fsys disk.FS, o Options) (*Store, error)
func (s *Store) Close() error
// Blobs are all that are whole, in no order.
func (s *Store) Blobs() []Info
// Stat answers from memory.
func (s *Store) Stat(digest string) (Info, bool)
// Open opens a whole blob. fs.ErrNotExist: there is none. It can be removed while it is read.
func (s *Store) Open(digest string) (*Blob, error)  // ReadAt, Size, Close
// Begin is a partial of a blob of that size: that of a process before, or a new one. The caller
// sees to it that there is one at a time for a digest.
func (s *Store) Begin(digest string, size int64) (*Partial, error)
// Partials are the ones that are on disk, for what counts the space.
func (s *Store) Partials() []Info
// Kept is the size of the partial that an earlier fill left, from memory: Begin with that size
// goes on with it. ok=false: there is none.
func (s *Store) Kept(digest string) (size int64, ok bool)
// Remove takes a blob out, a whole one or the partial of one that nobody has open; who reads
// it reads on. There being neither is no error.
func (s *Store) Remove(digest string) error
// Scrub reads a whole blob again, and takes it out with ErrDigest if its bytes changed.
func (s *Store) Scrub(ctx, digest, pace func(n int)) error

// Partial: all methods may be called at once. Commit, Discard and Close only when nothing is written
// any more; who reads reads on through Commit and Discard, until Close. Close is always the last one,
// by whoever leaves last; ReadAt after it is fs.ErrClosed, and never other bytes.
func (p *Partial) Size() int64
// WriteAt takes bytes to their place. Bytes that are there already are not written again: first come.
func (p *Partial) WriteAt(b []byte, at int64) (int, error)
func (p *Partial) ReadAt(b []byte, at int64) (int, error)   // only what is covered
// Covered is where the bytes from at on end; at itself if it is missing.
func (p *Partial) Covered(at int64) (to int64)
// Missing is the first gap at or after at, ok=false when there is none.
func (p *Partial) Missing(at int64) (Span, bool)
// Verify: all bytes are there; ErrDigest when they are not the digest's. It hashes what was not hashed while it came.
func (p *Partial) Verify() error
// Keep makes what is there now survive kill -9, with its spans.
func (p *Partial) Keep() error
// Commit makes it whole, after Verify: on return it survives a power cut, and Store.Open has it. When it
// fails the bytes are still there to be read, and Close leaves them for later.
func (p *Partial) Commit() error
// Discard removes it from the disk.
func (p *Partial) Discard() error
// Close ends it: with neither Commit nor Discard before, it is left for later, with Keep.
func (p *Partial) Close() error
*/
