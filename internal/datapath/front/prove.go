package front

import (
	"context"
	"time"

	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
)

// proofTimeout is how long a target may take for the image that it must have.
const proofTimeout = 15 * time.Second

// It is tried again after the first of these, and then after twice as long each time.
const (
	retryFirst = time.Second
	retryMost  = 30 * time.Second
)

// prover fetches an image from a layout's target alone. Clients are served in any
// case: during a switch another registry may serve them, so that only this shows
// whether the target can.
type prover struct {
	loaded  *Loaded
	changed chan struct{} // gets a token when there may be something to prove
	proved  func()        // is called when the status may have changed
}

func newProver(l *Loaded, proved func()) *prover {
	return &prover{loaded: l, changed: make(chan struct{}, 1), proved: proved}
}

// layoutChanged makes a proof due.
func (p *prover) layoutChanged() {
	select {
	case p.changed <- struct{}{}:
	default: // one is due already
	}
}

// run proves each target once, and tries again with a backoff until it has.
func (p *prover) run(ctx context.Context) {
	var due <-chan time.Time
	var retry time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
			retry = 0
		case <-due:
		}
		due = nil
		l, unproved := p.loaded.unproved()
		if !unproved {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, proofTimeout)
		err := routes.Prove(limited, l)
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.loaded.noteProof(l, err)
		p.proved()
		if err != nil {
			retry = min(max(2*retry, retryFirst), retryMost)
			due = time.After(retry)
		}
	}
}

// unproved is the layout that is served, if its target was not proved yet.
func (l *Loaded) unproved() (layout.Layout, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.layout, l.layout.Generation > 0 && !l.provedLocked()
}

func (l *Loaded) provedLocked() bool {
	return l.layout.Probe == "" || l.proof.of == routes.ProofOf(l.layout) && routes.Stands(l.layout, l.proof.err)
}

// noteProof notes what became of a proof of the target of a layout.
func (l *Loaded) noteProof(of layout.Layout, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && (l.proof.err == nil || l.proof.err.Error() != err.Error()) {
		l.log.Warn("the target alone does not serve; the generation is not reported", "target", of.Target.String(), "err", err)
	}
	l.proof = targetProof{of: routes.ProofOf(of), err: err}
}

// targetProof is what became of the last proof.
type targetProof struct {
	of  string // see routes.ProofOf
	err error
}

// lookInterval is how often it is looked whether pulls from the target fail.
const lookInterval = 10 * time.Second

// lookAtTarget calls changed when pulls from the target begin to fail, or end to.
func lookAtTarget(ctx context.Context, l *Loaded, changed func()) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := l.Status().TargetFails; now != last {
			last = now
			changed()
		}
	}
}
