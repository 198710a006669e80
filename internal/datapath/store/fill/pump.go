package fill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// pump is one answer of the source, and those that go on where it broke.
type pump struct {
	at       int64 // the next byte to be written; those behind are there
	claimed  int64 // where what is being read ends
	to       int64 // where what was asked for ends
	high     int64 // the furthest that it was
	answered bool  // bytes come
	through  bool  // also over bytes that are there: its source has no ranges
	gone     bool  // it brings nothing any more
}

// backoffs are how long to wait before a source that broke is asked again.
func backoffs() []time.Duration { return []time.Duration{200 * time.Millisecond, time.Second} }

// errMore is an answer that ended as it was asked to, before the bytes did.
var errMore = errors.New("there is more to come")

// bring has bytes come until others are before it. What breaks goes on at its byte.
func (x *coming) bring(p *pump) error {
	waits, mark := backoffs(), p.high
	for {
		err := x.answer(p)
		switch {
		case err == nil:
			return nil
		case x.ctx.Err() != nil:
			return context.Cause(x.ctx)
		case x.part == nil && p.at > 0 && errors.Is(err, ErrRange): // others want what there is
			p.at = 0
			continue
		case x.part == nil, isFinal(err):
			return err
		case errors.Is(err, errMore):
			continue
		case x.filler.cfg.breaks:
			return err
		case x.replaced(p):
			return nil
		}
		if p.high-mark >= progress {
			waits = backoffs()
		}
		if mark = p.high; len(waits) == 0 {
			return err
		}
		select {
		case <-time.After(waits[0]):
			waits = waits[1:]
		case <-x.ctx.Done():
			return context.Cause(x.ctx)
		}
	}
}

// isFinal reports whether asking again is of no use.
func isFinal(err error) bool {
	return errors.Is(err, ErrNoStore) || errors.Is(err, ErrNoSize) || errors.Is(err, blob.ErrDigest) || Contradicts(err)
}

// replaced ends a pump that never came to bring anything, if there are others: a source that
// answers one at a time is asked for one at a time.
func (x *coming) replaced(p *pump) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	p.answered = false
	if p.claimed > 0 || len(x.pumps) == 1 {
		return false
	}
	p.gone, x.single = true, true
	return true
}

// answer asks the source once, and takes what comes.
func (x *coming) answer(p *pump) error {
	from, to := x.ask(p)
	if from == to {
		return nil
	}
	a, err := x.source.Fetch(x.ctx, from, to)
	if err != nil {
		return oci.NotTheEnd(err)
	}
	defer func() { _ = a.Body.Close() }() // all that was needed is there, or it broke
	if ok, err := x.accept(p, a); !ok {
		return err
	}
	return x.take(p, a.Body)
}

// ask is what is missing from the place of a pump on; nothing if others brought it meanwhile.
func (x *coming) ask(p *pump) (from, to int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.to = math.MaxInt64; x.part == nil {
		return p.at, -1
	}
	to = x.limit(p)
	if p.gone = to <= p.at || x.err != nil; p.gone {
		return p.at, p.at
	}
	for _, q := range x.pumps { // also where no bytes come yet: what is on its way when an answer is cut is lost
		if q != p && !q.gone && q.at > p.at {
			to = min(to, q.at)
		}
	}
	if p.to = to; to == x.size {
		to = -1
	}
	return p.at, to
}

// accept is false for an answer of which nothing is to be taken.
func (x *coming) accept(p *pump, a Answer) (bool, error) {
	switch {
	case a.Size < 0:
		return false, ErrNoSize
	case a.From < 0, a.From > p.at, a.From > a.Size:
		return false, fmt.Errorf("%w: byte %d of %d, and not %d", ErrPlace, a.From, a.Size, p.at)
	}
	if x.part == nil {
		x.single = a.From < p.at // before others are sent elsewhere
		if err := x.settle(a.Size); err != nil {
			return false, err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if a.Size != x.size {
		return false, fmt.Errorf("%w: %d bytes before, and now %d", ErrSize, x.size, a.Size)
	}
	others := func(is func(q *pump) bool) bool {
		return slices.ContainsFunc(x.pumps, func(q *pump) bool { return q != p && q.answered && !q.gone && is(q) })
	}
	if a.From < p.at {
		x.single, p.through = true, true
		_, missing := x.part.Missing(0)
		p.gone = !missing || others(func(*pump) bool { return true }) // that one is not interrupted: it comes by
		p.at, p.to = a.From, x.size
	} else { // others may have come by
		p.gone = x.limit(p) <= p.at || others(func(q *pump) bool { return q.at <= p.at && p.at < q.claimed })
	}
	p.answered = !p.gone
	return p.answered, nil
}

// take writes what comes to its place, as far as it is the pump's.
func (x *coming) take(p *pump, body io.Reader) error {
	buf, _ := x.filler.buffers.Get().(*[chunk]byte)
	defer x.filler.buffers.Put(buf)
	for {
		n, err := x.claim(p)
		if n == 0 {
			return errors.Join(err, x.surplus(p, body, buf[:1]))
		}
		got, err := body.Read(buf[:n])
		if got > 0 {
			if err := x.write(p, buf[:got]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			if n, err = x.claim(p); n == 0 {
				return err
			}
			err = fmt.Errorf("%w: at byte %d of %d", io.ErrUnexpectedEOF, p.at, x.size)
		}
		if err != nil {
			return err
		}
	}
}

// claim is how many bytes a pump is to read next. None ends it, or is errMore.
func (x *coming) claim(p *pump) (int64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	limit := x.limit(p)
	if p.gone = limit <= p.at || x.err != nil; p.gone {
		return 0, nil
	}
	n := min(chunk, limit-p.at, p.to-p.at)
	if n <= 0 { // another one is about to begin here, or has left before it did
		p.gone = slices.ContainsFunc(x.pumps, func(q *pump) bool { return q != p && !q.gone && q.at == p.at })
		if p.gone {
			return 0, nil
		}
		return 0, errMore
	}
	p.claimed = p.at + n
	return n, nil
}

// limit is where the way of a pump ends: before bytes that are there, or that come.
func (x *coming) limit(p *pump) int64 {
	if p.through || x.filler.cfg.overlap {
		return x.size
	}
	gap, missing := x.part.Missing(p.at)
	if !missing || gap.From > p.at {
		return p.at
	}
	for _, q := range x.pumps {
		if q != p && q.answered && !q.gone && x.place(q) >= p.at {
			gap.To = min(gap.To, x.place(q))
		}
	}
	return gap.To
}

func (x *coming) write(p *pump, b []byte) error {
	x.filler.cfg.Metrics.Fetched(len(b))
	if err := x.filler.cfg.Pace(x.ctx, len(b)); err != nil {
		return fmt.Errorf("wait until the disk may be written: %w", err)
	}
	err := x.room(len(b))
	if err == nil {
		_, err = x.part.WriteAt(b, p.at)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoStore, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	from := p.at
	p.at += int64(len(b))
	p.high = max(p.high, p.at)
	x.wakeAt(from, p.at)
	if x.unkept += int64(len(b)); x.unkept >= x.filler.cfg.Keep && !x.keeping {
		x.unkept, x.keeping = 0, true
		x.keeps.Add(1)
		x.filler.running.Go(x.note)
	}
	return nil
}

// note has what is there survive the process, beside what comes.
func (x *coming) note() {
	defer x.keeps.Done()
	x.logged("keep", x.part.Keep())
	x.mu.Lock()
	defer x.mu.Unlock()
	x.keeping = false
}

// surplus finds what follows the last byte. It also has the source's connection read to its
// end, so that it can be used again.
func (x *coming) surplus(p *pump, body io.Reader, one []byte) error {
	if p.at < x.size || x.ctx.Err() != nil {
		return nil
	}
	if n, _ := body.Read(one); n > 0 {
		x.filler.cfg.Metrics.Fetched(n)
		return fmt.Errorf("%w: it gives more than %d bytes", ErrSize, x.size)
	}
	return nil
}
