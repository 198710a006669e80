package fill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// coming is one blob that comes. Its pumps are its life: the last one to leave has it
// verified and committed, or given up. No lock is held where a file or a source is used.
type coming struct {
	filler *Filler
	digest string
	source Source
	ctx    context.Context
	stop   context.CancelCauseFunc
	sized  chan struct{} // closed when part and size are known, or why they are not
	ended  chan struct{} // closed when another one may begin
	keeps  sync.WaitGroup

	mu      sync.Mutex
	part    *blob.Partial // nil until the size is known; never replaced
	size    int64
	room    func(n int) error // has it made before so many bytes are written
	done    func(kept bool)   // gives it back
	pumps   []*pump
	spare   int  // how many more answers may be asked for
	single  bool // the source has no ranges, or gives one answer at a time
	unkept  int64
	keeping bool
	readers int
	waiting []*Reader
	early   []int64 // places of those who came before the size was known
	alone   *time.Timer
	missed  int64 // what was missing when nobody was there the last time
	told    bool  // sized is closed
	whole   bool  // the digest is right
	err     error

	resting, uncommitted bool // nothing is left to do: the last reader closes the file
}

func newComing(f *Filler, r *Reader, src Source) *coming {
	x := &coming{
		filler: f, digest: r.digest, source: src, readers: 1, early: []int64{r.at}, spare: f.cfg.Pumps,
		sized: make(chan struct{}), ended: make(chan struct{}), done: func(bool) {},
	}
	parent := f.ctx
	if f.cfg.oneClient {
		parent = r.ctx
	}
	x.ctx, x.stop = context.WithCancelCause(parent)
	return x
}

// begin has the first bytes come, from the place of the first reader. What an earlier fill
// left can be read at once.
func (x *coming) begin(from int64) {
	size, ok := x.filler.cfg.Blobs.Kept(x.digest)
	if !ok {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.start(from)
		return
	}
	first := &pump{gone: true} // brings nothing, and keeps others from being the last
	x.pumps = append(x.pumps, first)
	x.leave(first, x.settle(size))
}

// settle has room and a file for a blob of that size.
func (x *coming) settle(size int64) error {
	room, done, err := x.filler.cfg.Reserve(x.digest, size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	part, err := x.filler.cfg.Blobs.Begin(x.digest, size)
	if err != nil {
		_, kept := x.filler.cfg.Blobs.Kept(x.digest)
		done(kept)
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.part, x.size, x.room, x.done = part, size, room, done
	for _, at := range x.early { // all at once: so each is asked for up to where the next one begins
		if at < size && part.Covered(at) == at {
			x.want(at)
		}
	}
	x.early = nil
	x.tell()
	return nil
}

func (x *coming) tell() {
	if !x.told {
		x.told = true
		close(x.sized)
	}
}

// start has one more answer come.
func (x *coming) start(at int64) {
	p := &pump{at: at, high: at}
	x.pumps = append(x.pumps, p)
	x.spare--
	x.filler.running.Go(func() { x.leave(p, x.bring(p)) })
}

// leave takes a pump out. The last one has what is missing brought, or ends the fill.
func (x *coming) leave(p *pump, err error) {
	x.mu.Lock()
	x.pumps = slices.DeleteFunc(x.pumps, func(q *pump) bool { return q == p })
	if err != nil {
		x.failed(err)
	}
	last := len(x.pumps) == 0
	if last && x.err == nil {
		if x.ctx.Err() != nil {
			x.failed(context.Cause(x.ctx))
		} else if at, missing := x.next(); missing {
			x.start(at)
			last = false
		}
	}
	x.wakeAll()
	x.mu.Unlock()
	if last {
		x.end()
	}
}

// failed ends all pumps and readers.
func (x *coming) failed(err error) {
	if x.err == nil {
		x.err = err
		x.stop(err)
	}
	if x.alone != nil {
		x.alone.Stop()
	}
	x.tell()
	x.wakeAll()
}

// failure is why there is no blob; nil as long as there may be one.
func (x *coming) failure() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// end makes of the partial what can be made of it. Nobody writes any more.
func (x *coming) end() {
	x.keeps.Wait()
	err := x.failure()
	if err == nil {
		err = x.verify()
	}
	if err == nil {
		x.commit()
		return
	}
	x.filler.cfg.Metrics.Ended(err)
	x.filler.cfg.Log.Info("a blob that came was not stored", "digest", x.digest, "err", err)
	if x.part != nil && !x.useful(err) {
		x.logged("discard", x.part.Discard())
	}
	if x.part != nil {
		x.logged("close", x.part.Close())
	}
	x.over()
}

// over gives the room back, and lets the next one begin.
func (x *coming) over() {
	_, whole := x.filler.cfg.Blobs.Stat(x.digest)
	_, kept := x.filler.cfg.Blobs.Kept(x.digest)
	x.done(whole || kept)
	x.filler.cfg.Over(x.digest)
	x.filler.leave(x)
}

// verify gives the last byte out, or the blob up.
func (x *coming) verify() error {
	err := x.part.Verify()
	if x.filler.cfg.checkLate && errors.Is(err, blob.ErrDigest) {
		err = nil // it is not committed all the same
	}
	if err != nil && !errors.Is(err, blob.ErrDigest) {
		err = fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err != nil {
		x.failed(err)
		return err
	}
	x.whole = true
	if x.alone != nil {
		x.alone.Stop()
	}
	x.wakeAll()
	return nil
}

// useful reports whether what came is to be kept for the next Open. What may be wrong is not: the next
// one would be told the same. Where the disk is full others need the room.
func (x *coming) useful(why error) bool {
	gap, missing := x.part.Missing(0)
	nothing := missing && gap.From == 0 && gap.To == x.size
	return !nothing && !errors.Is(why, blob.ErrDigest) && !Contradicts(why) && !errors.Is(why, ErrNoStore)
}

// commit makes a blob of it that is served from disk from then on. Readers have the last
// byte already; whoever opens it meanwhile joins. If it cannot be, it is served from here
// until the last reader leaves.
func (x *coming) commit() {
	err := x.part.Commit()
	x.filler.cfg.Metrics.Ended(err)
	if err == nil {
		x.over()
	} else {
		x.logged("commit", err)
		x.logged("keep", x.part.Keep())
	}
	x.mu.Lock()
	x.resting, x.uncommitted = true, err != nil
	last := x.readers == 0
	x.mu.Unlock()
	if last {
		x.logged("close", x.rest())
	}
}

// rest closes the file, when nobody reads it any more.
func (x *coming) rest() error {
	err := x.part.Close()
	if x.uncommitted {
		x.over()
	}
	return err
}

func (x *coming) logged(step string, err error) {
	if err != nil {
		x.filler.cfg.Log.Warn("what comes of a blob", "step", step, "digest", x.digest, "err", err)
	}
}
