package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
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
}

func newAttemptTimeout(parent context.Context, limit time.Duration) *attemptTimeout {
	ctx, cancel := context.WithCancelCause(parent)
	return &attemptTimeout{ctx: ctx, cancel: cancel, header: time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("%w: %s to the header", errNoAnswer, limit.Round(time.Millisecond)))
	})}
}

// headerArrived ends the limit. It is false when it was too late.
func (p *attemptTimeout) headerArrived() bool { return p.header.Stop() }

// explain replaces the "context canceled" of our own timeout.
func (p *attemptTimeout) explain(err error) error {
	if cause := context.Cause(p.ctx); errors.Is(cause, errNoAnswer) {
		return cause
	}
	return err
}

func (p *attemptTimeout) end() {
	p.header.Stop()
	p.cancel(nil)
}

// watch ends the attempt when a Read gets nothing for as long as stall. Only
// Reads are timed: a client that reads slowly is no fault of the upstream.
func (p *attemptTimeout) watch(body io.ReadCloser, stall time.Duration) io.ReadCloser {
	timer := time.AfterFunc(stall, func() {
		p.cancel(fmt.Errorf("%w: body silent for %s", errNoAnswer, stall))
	})
	timer.Stop()
	return &watchedBody{body: body, timeout: p, timer: timer, stall: stall}
}

type watchedBody struct {
	body    io.ReadCloser
	timeout *attemptTimeout
	timer   *time.Timer
	stall   time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.body.Read(p)
	b.timer.Stop()
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
