package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// errNoAnswer is the cause when we ended an attempt because of silence.
var errNoAnswer = errors.New("no answer in time")

// attemptTimeout is the time that one attempt has: a limit until the header, then
// one for silence only. A total limit would cut large layers on thin links.
type attemptTimeout struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	header *time.Timer
	alive  *time.Timer // nil for who need not be
	pinged atomic.Bool // it is alive
}

func newAttemptTimeout(parent context.Context, limit time.Duration) *attemptTimeout {
	ctx, cancel := context.WithCancelCause(parent)
	return &attemptTimeout{ctx: ctx, cancel: cancel, header: time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("%w: %s to the header", errNoAnswer, limit.Round(time.Millisecond)))
	})}
}

// whileAlive ends the attempt sooner, at a limit, if there is no header then and nobody answers a
// ping either.
func (p *attemptTimeout) whileAlive(limit time.Duration, ping func(context.Context) error) {
	p.alive = time.AfterFunc(limit/2, func() {
		ctx, cancel := context.WithTimeout(p.ctx, limit/2)
		defer cancel()
		switch err := ping(ctx); {
		case err == nil:
			p.pinged.Store(true)
		case p.header.Stop():
			p.cancel(fmt.Errorf("%w: %s to the header, and to anything", errNoAnswer, limit.Round(time.Millisecond)))
		}
	})
}

// waited reports whether there was no header in time from one that is alive: it waits for another
// one, and the next pull may be of what it has.
func (p *attemptTimeout) waited() bool {
	return p.pinged.Load() && errors.Is(context.Cause(p.ctx), errNoAnswer)
}

// headerArrived ends the limit. It is false when it was too late.
func (p *attemptTimeout) headerArrived() bool {
	if p.alive != nil {
		p.alive.Stop()
	}
	return p.header.Stop()
}

// explain replaces the "context canceled" of our own timeout.
func (p *attemptTimeout) explain(err error) error {
	if cause := context.Cause(p.ctx); errors.Is(cause, errNoAnswer) {
		return cause
	}
	return err
}

func (p *attemptTimeout) end() {
	if p.alive != nil {
		p.alive.Stop()
	}
	p.header.Stop()
	p.cancel(nil)
}

// watch ends the attempt when a Read gets nothing for as long as stall. Only
// Reads are timed: a client that reads slowly is no fault of the upstream. Who waits for
// bytes himself has as long as silent if he answers a ping; nil is for who need not be asked.
func (p *attemptTimeout) watch(body io.ReadCloser, stall, silent time.Duration, ping func(context.Context) error) io.ReadCloser {
	b := &watchedBody{body: body, timeout: p, stall: stall, most: silent, ping: ping}
	b.timer = time.AfterFunc(stall, b.silent)
	b.timer.Stop()
	return b
}

type watchedBody struct {
	body    io.ReadCloser
	timeout *attemptTimeout
	timer   *time.Timer
	stall   time.Duration
	most    time.Duration // the same, for who is alive
	ping    func(context.Context) error

	mu    sync.Mutex
	reads int       // that have begun
	since time.Time // when the last one did; zero when it has ended
}

// reading notes that a Read begins, or has ended.
func (b *watchedBody) reading(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since = since; since.IsZero() {
		b.timer.Stop()
		return
	}
	b.reads++
	b.timer.Reset(b.stall)
}

// silent is that a Read has waited for as long as stall.
func (b *watchedBody) silent() {
	b.mu.Lock()
	read, since := b.reads, b.since
	b.mu.Unlock()
	alive := false
	if b.ping != nil && time.Since(since) < b.most {
		ctx, cancel := context.WithTimeout(b.timeout.ctx, b.stall)
		alive = b.ping(ctx) == nil
		cancel()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.reads != read || b.since.IsZero(): // it spoke meanwhile
	case alive:
		b.timer.Reset(b.stall)
	default:
		b.timeout.cancel(fmt.Errorf("%w: body silent for %s", errNoAnswer, time.Since(since).Round(time.Millisecond)))
	}
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.reading(time.Now())
	n, err := b.body.Read(p)
	b.reading(time.Time{})
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.timeout.explain(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	// Before closing: Close may wait for the connection.
	b.timeout.end()
	return b.body.Close()
}
