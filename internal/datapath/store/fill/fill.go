// Package fill lets a blob be read while it comes, by anybody, from any place, and has
// each of its bytes fetched once.
//
// A fill belongs to no client: it goes on when they leave. The last byte is given out only
// when the digest is right, so that nobody ever holds a whole blob of wrong bytes. It knows
// package blob and no HTTP: where bytes come from is a Source. Start at (*Filler).Open.
package fill

import (
	"context"
	"io"
)

// Source is where the bytes of one blob come from.
type Source interface {
	// Fetch asks for the bytes from one place to before another; to is below 0 for all
	// that follow. The context is that of the fill and no client's. A source without
	// ranges answers from 0.
	Fetch(ctx context.Context, from, to int64) (Answer, error)
}

// Answer are bytes on their way.
type Answer struct {
	Body io.ReadCloser
	// From is where the body begins.
	From int64
	// Size is that of the whole blob, in bytes; below 0 when nobody says it: such a blob is
	// not kept (ErrNoSize).
	Size int64
}

/*
type Config struct {
	Blobs *blob.Store
	// Reserve asks for room for a blob that will come, also for one of which a partial is there
	// (space.Keeper.Reserve). done is called once, when nothing is written any more, with whether
	// anything of it stays on disk: the whole blob, or a partial.
	Reserve func(digest string, size int64) (done func(kept bool), err error)
	// Pace waits until so many bytes may be written (space.Guard.Pace); nil never waits.
	Pace func(ctx context.Context, n int) error
	Pumps int            // parallel fetches of one blob, default 4
	Near  int64          // a fetch that is as near before a place is waited for, default 8 MiB
	Alone time.Duration  // how long a fill without readers goes on that is below half, default 60 s
	Keep  int64          // the partial is noted on disk every 64 MiB
	Tries, Log, Metrics
}
func New(ctx, cfg) *Filler ; Close waits for pumps and keeps the partials

// Open is a reader of a blob from a place on: of the whole one on disk, or of the one that comes, which
// it begins or joins. It returns when the size is known. The error is that of the source.
func (f *Filler) Open(ctx context.Context, digest string, from int64, src Source) (*Reader, error)
Reader: Size() int64; Seek-like SetRange? ; Read(p), Close(); WriteTo? ; Joined() bool / Hit() for metrics
Errors a Reader can end with: ErrGone (wrong digest, disk): the caller goes on from another way at its byte.
*/
