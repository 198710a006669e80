package nodescript

import (
	"context"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// traceFrom is the number of failures after which bash prints what it does.
const traceFrom = 3

// round runs what is due and returns when the next round is. It ends early if the
// plan has changed: then all scripts run again, from the first.
func (r *Runner) round(ctx context.Context) time.Duration {
	p, node, known := r.plan()
	if !known {
		return r.cfg.Again // the loop is woken when it is known
	}
	r.folder.sweep(p)
	changed, left := r.due(p)
	if changed {
		r.show(p, registryv1alpha1.ScriptPending)
	} else { // a regular repetition: each is done until it fails
		r.show(p, registryv1alpha1.ScriptDone)
	}
	if left > 0 {
		return left
	}
	r.log.Info("scripts run", "scripts", len(p.scripts), "checksum", p.checksum)
	for i := range p.scripts {
		if !r.untilDone(ctx, p, i, node) {
			return 0 // the plan has changed, or the agent ends
		}
	}
	err := r.folder.complete(done{Checksum: p.checksum, BootID: r.cfg.BootID, At: time.Now()})
	if err != nil {
		r.log.Error("what was done cannot be noted", "err", err)
		return r.cfg.Retry
	}
	r.log.Info("scripts are done", "scripts", len(p.scripts))
	return r.cfg.Again
}

// due reports whether the plan was not completed since the last boot, and for how
// long nothing needs to run.
func (r *Runner) due(p plan) (changed bool, left time.Duration) {
	last := r.folder.last()
	if last.Checksum != p.checksum || last.BootID != r.cfg.BootID {
		return true, 0
	}
	age := time.Since(last.At)
	if age < 0 { // the clock was set back
		return false, 0
	}
	return false, max(0, r.cfg.Again-age)
}

// untilDone runs one script until it succeeds. It is false if the plan has changed
// or the agent ends.
func (r *Runner) untilDone(ctx context.Context, p plan, i int, node Node) bool {
	s := p.scripts[i]
	for failures := 0; ; {
		if now, _, _ := r.plan(); now.checksum != p.checksum || ctx.Err() != nil {
			return false
		}
		result := r.runOnce(ctx, s, failures)
		if ctx.Err() != nil {
			return false // it may have been ended by us
		}
		if result.failure == "" {
			r.notify.succeeded(s)
			r.set(s, registryv1alpha1.ScriptDone, "")
			return true
		}
		failures++
		// Not what it printed: that is only for those who may read Events of Nodes.
		r.log.Warn("script failed", "script", s.name, "failures", failures, "reason", result.failure)
		r.set(s, registryv1alpha1.ScriptFailed, result.failure)
		r.notify.failed(ctx, node, s, result)
		if !r.pause(ctx, p) {
			return false
		}
	}
}

// runOnce runs a script. If it takes longer than a second it is shown as running.
func (r *Runner) runOnce(ctx context.Context, s script, failures int) outcome {
	shown := make(chan struct{})
	slow := time.AfterFunc(time.Second, func() {
		defer close(shown)
		r.started(s)
	})
	result := r.bash.run(ctx, s, failures >= traceFrom)
	if !slow.Stop() {
		<-shown // it must not come after what is reported about the end
	}
	return result
}

// pause waits until a failed script is to be tried again. It is false if the plan
// has changed.
func (r *Runner) pause(ctx context.Context, p plan) bool {
	again := time.After(r.cfg.Retry)
	for {
		select {
		case <-again:
			return true
		case <-ctx.Done():
			return false
		case <-r.wake:
			if now, _, _ := r.plan(); now.checksum != p.checksum {
				return false
			}
			r.refresh()
		}
	}
}
