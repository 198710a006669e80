// Package fill lets a blob be read while it comes, by anybody, from any place, and has
// each of its bytes fetched once.
//
// A fill belongs to no client: it goes on when they leave. The last byte is given out only
// when the digest is right, so that nobody ever holds a whole blob of wrong bytes. It knows
// package blob and no HTTP: where bytes come from is a Source. Start at (*Filler).Open, then
// coming, which is one blob, and pump, which is one answer of its source.
package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// Why a fill ends without a blob, besides the error of its source and blob.ErrDigest. Whoever
// reads can go on elsewhere at its byte, see Reader.At.
var (
	// ErrNoStore is that the disk has no room or fails: the source may be asked past the store.
	ErrNoStore = errors.New("the store cannot keep it")
	// ErrNoSize is a source that does not say how large the blob is.
	ErrNoSize = errors.New("its size is not known")
	// ErrSize is a source that gives more or fewer bytes than it said, or says another size
	// than before.
	ErrSize = errors.New("its size is another one than was said")
	// ErrPlace is a source that answers from elsewhere than it was asked for.
	ErrPlace = errors.New("it was answered from another place than was asked for")
	// ErrAlone is that nobody read it for long: what came of it is kept.
	ErrAlone = errors.New("nobody waits for it")
	// ErrClosed is that the store ends.
	ErrClosed = errors.New("the store ends")
)

// ErrRange is what a source says of a place behind the end. It is asked for the whole blob
// then: one client's mistake is not to end what others wait for.
var ErrRange = errors.New("there is no such place in it")

// Contradicts reports whether a source said something that does not go with what came before: either
// may be wrong, the size too.
func Contradicts(why error) bool {
	return errors.Is(why, ErrSize) || errors.Is(why, ErrPlace) || errors.Is(why, ErrRange)
}

// Source is where the bytes of one blob come from.
type Source interface {
	// Fetch asks for the bytes from one place to before another; to is below 0 for all
	// that follow. The context is that of the fill and no client's: it ends body and request.
	// A source without ranges answers from 0. Whoever makes one ends bodies that are silent, and
	// those that it finds to be of another digest with blob.ErrDigest.
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

// Metrics are told of what happens.
type Metrics interface {
	// Opened is one reader, and what it found.
	Opened(how How)
	// Fetched are bytes that came from a source.
	Fetched(n int)
	// Ended is one fill: nil when the blob is on disk, else why it is not.
	Ended(err error)
}

// Config is what a Filler goes by. Zero values are the defaults.
type Config struct {
	Blobs *blob.Store
	// Reserve asks for room for a blob that will come, also for one of which a partial is there
	// (space.Keeper.Reserve). take is called before so many bytes are written, and may make room for
	// them. done is called once, when nothing is written any more, with whether anything of it stays
	// on disk: the whole blob, or a partial.
	Reserve func(digest string, size int64) (take func(n int) error, done func(kept bool), err error)
	// Over is told of the digest of each fill that has ended, before another one may begin; nil
	// is nobody.
	Over func(digest string)
	// Pace waits until so many bytes may be written (space.Guard.Pace); nil never waits.
	Pace func(ctx context.Context, n int) error
	// Pumps is how many answers of one source come at a time, and how many are asked for in
	// all when none breaks. Default 4.
	Pumps int
	// Near is how far before a place an answer is waited for. Default 8 MiB.
	Near int64
	// Alone is how long a fill goes on without readers that has less than half. Default 60 s.
	Alone time.Duration
	// Keep is after how many bytes what is there is noted on disk. Default 64 MiB.
	Keep    int64
	Log     *slog.Logger
	Metrics Metrics
	Promises
}

// Promises are kept by the zero value, which is what ships. They are there to be seen broken: no
// byte is held back; the digest is looked at when readers have all; pumps run into each other; a
// fill ends with the client that began it, or with the first answer that breaks.
type Promises struct{ holdNothing, checkLate, overlap, oneClient, breaks bool }

const chunk = 32 << 10

func (c Config) withDefaults() Config {
	if c.Pumps <= 0 {
		c.Pumps = 4
	}
	if c.Near <= 0 {
		c.Near = 8 << 20
	}
	if c.Alone <= 0 {
		c.Alone = time.Minute
	}
	if c.Keep <= 0 {
		c.Keep = 64 << 20
	}
	if c.Over == nil {
		c.Over = func(string) {}
	}
	if c.Pace == nil {
		c.Pace = func(context.Context, int) error { return nil }
	}
	return c
}

// Filler has all blobs that come at the moment.
type Filler struct {
	cfg     Config
	ctx     context.Context // of all that is fetched; no request's
	stop    context.CancelCauseFunc
	buffers sync.Pool      // of *[chunk]byte
	running sync.WaitGroup // all goroutines; one of a fill is there until its end

	mu     sync.Mutex
	coming map[string]*coming // one for a digest
	closed bool
}

// New is a Filler whose fills end with the context, or with Close.
func New(ctx context.Context, cfg Config) *Filler {
	f := &Filler{cfg: cfg.withDefaults(), coming: map[string]*coming{}}
	f.ctx, f.stop = context.WithCancelCause(ctx)
	f.buffers.New = func() any { return new([chunk]byte) }
	return f
}

// Close ends all fills, keeps what came, and waits until nothing is written any more. Whole
// blobs can be read on.
func (f *Filler) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop(ErrClosed)
	f.running.Wait()
	return nil
}

// Open is a reader of a blob from a place on: of the whole one on disk, or of the one that
// comes, which it begins or joins. It returns when the size is known. The error is that of
// the source, or one of those above; the source of who joins is not asked.
func (f *Filler) Open(ctx context.Context, digest string, from int64, src Source) (*Reader, error) {
	if !oci.IsDigest(digest) || from < 0 {
		return nil, fmt.Errorf("open blob %.140q at byte %d: this is no blob, or no place", digest, from)
	}
	r := &Reader{ctx: ctx, digest: digest, at: from}
	for gone := false; ; {
		switch err := f.find(r, src); {
		case errors.Is(err, errEnding): // and then it is whole, or the next one begins
			select {
			case <-r.coming.ended:
			case <-ctx.Done():
				return nil, r.failed(context.Cause(ctx))
			}
		case errors.Is(err, errWhole) && gone: // twice: somebody removed the file by hand
			if err := f.cfg.Blobs.Remove(digest); err != nil {
				return nil, r.failed(fmt.Errorf("%w: %w", ErrNoStore, err))
			}
		case errors.Is(err, errWhole):
			gone = true
		case err != nil:
			return nil, r.failed(err)
		default:
			f.cfg.Metrics.Opened(r.how)
			return r, nil
		}
	}
}

// Size is that of a blob that is there, or that comes and is readable already.
func (f *Filler) Size(digest string) (size int64, known bool) {
	if info, whole := f.cfg.Blobs.Stat(digest); whole {
		return info.Size, true
	}
	f.mu.Lock()
	x := f.coming[digest]
	f.mu.Unlock()
	if x == nil {
		return 0, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.size, x.part != nil && x.err == nil
}

// The next try of Open finds something else.
var (
	errEnding = errors.New("the fill ends")
	errWhole  = errors.New("it has just become whole")
)

// find gives a reader its file.
func (f *Filler) find(r *Reader, src Source) error {
	whole, err := f.cfg.Blobs.Open(r.digest)
	if err == nil {
		size := whole.Size()
		r.how, r.file, r.release, r.size, r.to, r.there = Hit, whole, whole.Close, size, size, size
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	if err := f.enter(r, src); err != nil {
		return err
	}
	return r.coming.admit(r)
}

// enter finds the fill of a digest, or begins it.
func (f *Filler) enter(r *Reader, src Source) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.ctx.Err() != nil {
		return ErrClosed
	}
	if x := f.coming[r.digest]; x != nil {
		r.coming, r.how = x, Joined
		return x.join(r)
	}
	if _, whole := f.cfg.Blobs.Stat(r.digest); whole {
		return errWhole // since find looked
	}
	x := newComing(f, r, src)
	f.coming[r.digest], r.coming, r.how = x, x, Began
	f.running.Go(func() { x.begin(r.at) })
	return nil
}

// leave takes a fill out: the next Open finds the blob, or begins anew.
func (f *Filler) leave(x *coming) {
	f.mu.Lock()
	delete(f.coming, x.digest)
	f.mu.Unlock()
	close(x.ended)
}
