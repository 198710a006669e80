package fill

import (
	"context"
	"math"
	"slices"
	"time"
)

// progress is what a source has to bring in a while so that it is waited for.
const progress = 1 << 20

// join counts a reader in, or tells it to wait for the end.
func (x *coming) join(r *Reader) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil || x.resting && x.readers == 0 {
		return errEnding
	}
	x.readers++
	if x.part == nil {
		x.early = append(x.early, r.at)
	}
	if x.alone != nil {
		x.alone.Stop()
	}
	return nil
}

// admit makes a reader ready that was counted in.
func (x *coming) admit(r *Reader) (err error) {
	select {
	case <-x.sized:
		err = x.ready(r)
	case <-r.ctx.Done():
		err = context.Cause(r.ctx)
	}
	if err != nil {
		x.logged("close", x.left())
	}
	return err
}

func (x *coming) ready(r *Reader) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.part == nil {
		return x.err
	}
	r.file, r.release, r.size, r.to, r.there = x.part, x.left, x.size, x.size, -1
	return nil
}

// left counts a reader out. The last one closes the file of what is whole, or begins the
// time that a fill has alone.
func (x *coming) left() error {
	x.mu.Lock()
	x.readers--
	last, rests := x.readers == 0, x.resting
	if last && !x.whole && x.err == nil {
		x.missed = x.missing()
		x.alone = time.AfterFunc(x.filler.cfg.Alone, x.lonely)
	}
	x.mu.Unlock()
	if last && rests {
		return x.rest()
	}
	return nil
}

// lonely ends a fill that nobody has read for a while, unless more than half is there and
// the rest is coming: then the next one who wants it finds it whole.
func (x *coming) lonely() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.readers > 0 || x.whole || x.err != nil {
		return
	}
	missing := x.missing()
	switch {
	case missing == 0: // it is being verified
	case missing > x.size/2 || x.missed-missing < min(progress, missing):
		x.failed(ErrAlone)
	default:
		x.missed = missing
		x.alone.Reset(x.filler.cfg.Alone)
	}
}

func (x *coming) missing() (n int64) {
	if x.part == nil {
		return math.MaxInt64
	}
	for gap, ok := x.part.Missing(0); ok; gap, ok = x.part.Missing(gap.To) {
		n += gap.To - gap.From
	}
	return n
}

// await returns when the byte of a reader can be read: where those that can be end.
func (x *coming) await(r *Reader) (int64, error) {
	for {
		there, err := x.look(r)
		if err != nil || there >= 0 {
			return there, err
		}
		select {
		case <-r.wake:
		case <-r.ctx.Done():
			x.mu.Lock()
			x.waiting = slices.DeleteFunc(x.waiting, func(w *Reader) bool { return w == r })
			x.mu.Unlock()
			return -1, context.Cause(r.ctx)
		}
	}
}

// look is below 0 for a reader that has to wait; its byte is on its way then.
func (x *coming) look(r *Reader) (there int64, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return -1, x.err
	}
	if there := x.readable(r.at); there > r.at || x.whole {
		return there, nil
	}
	if r.at < x.size && x.part.Covered(r.at) == r.at {
		x.want(r.at)
	}
	if r.wake == nil {
		r.wake = make(chan struct{}, 1)
	}
	x.waiting = append(x.waiting, r)
	return -1, nil
}

// readable is where the bytes end that can be read from a place on. The last byte of all
// is not among them before the digest is right.
func (x *coming) readable(at int64) int64 {
	if x.whole {
		return x.size
	}
	to := x.part.Covered(at)
	if !x.filler.cfg.holdNothing {
		to = min(to, x.size-1)
	}
	return to
}

// wakeAll has all who wait look again.
func (x *coming) wakeAll() {
	for _, r := range x.waiting {
		r.signal()
	}
	clear(x.waiting)
	x.waiting = x.waiting[:0]
}

// wakeAt wakes those whose byte is there now.
func (x *coming) wakeAt(from, to int64) {
	x.waiting = slices.DeleteFunc(x.waiting, func(r *Reader) bool {
		there := r.at >= from && r.at < to && x.readable(r.at) > r.at
		if there {
			r.signal()
		}
		return there
	})
}

// signal never waits: a reader that left may have one more.
func (r *Reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
