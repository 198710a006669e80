package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// errImpatient is the cause when we ended an attempt because of silence.
var errImpatient = errors.New("no answer in time")

// patience is the time that one attempt has: a limit for the header, then none
// but for silence. A total limit would cut large layers on thin links.
type patience struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	header *time.Timer
}

func newPatience(parent context.Context, limit time.Duration) *patience {
	ctx, cancel := context.WithCancelCause(parent)
	return &patience{ctx: ctx, cancel: cancel, header: time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("%w: %s to the header", errImpatient, limit.Round(time.Millisecond)))
	})}
}

// headerArrived ends the limit. It is false when it was too late.
func (p *patience) headerArrived() bool { return p.header.Stop() }

// explain replaces the "context canceled" of our own impatience.
func (p *patience) explain(err error) error {
	if cause := context.Cause(p.ctx); errors.Is(cause, errImpatient) {
		return cause
	}
	return err
}

func (p *patience) end() {
	p.header.Stop()
	p.cancel(nil)
}

// watch ends the attempt when a Read gets nothing for as long as stall. A
// client that reads slowly is not to blame: only Reads are timed.
func (p *patience) watch(body io.ReadCloser, stall time.Duration) io.ReadCloser {
	timer := time.AfterFunc(stall, func() {
		p.cancel(fmt.Errorf("%w: body silent for %s", errImpatient, stall))
	})
	timer.Stop()
	return &watchedBody{body: body, patience: p, timer: timer, stall: stall}
}

type watchedBody struct {
	body     io.ReadCloser
	patience *patience
	timer    *time.Timer
	stall    time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.stall)
	n, err := b.body.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.patience.explain(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	// Before closing: Close may wait for the connection.
	b.patience.end()
	return b.body.Close()
}
