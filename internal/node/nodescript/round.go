package nodescript

import (
	"context"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// traceFrom is how often a script failed before bash tells what it does.
const traceFrom = 3

// round runs what is due and says when the next one is. It ends early when what
// is to run has changed: then all of it runs, from the first.
func (r *Runner) round(ctx context.Context) time.Duration {
	p, node, known := r.plan()
	if !known {
		return r.cfg.Again // whatever makes it known wakes us
	}
	r.folder.sweep(p)
	changed, left := r.due(p)
	if changed {
		r.show(p, registryv1alpha1.ScriptPending)
	} else { // at most once more, for good measure: done until one fails
		r.show(p, registryv1alpha1.ScriptDone)
	}
	if left > 0 {
		return left
	}
	r.log.Info("scripts run", "scripts", len(p.scripts), "checksum", p.checksum)
	for i := range p.scripts {
		if !r.untilDone(ctx, p, i, node) {
			return 0 // the plan is another one, or there is no more time
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

// due says whether the plan has not been completed since the node was booted,
// and for how long nothing has to run if nothing changes.
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

// untilDone runs one script until it succeeds. It is false when that is no
// longer what is wanted.
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
		// Never what it printed: that is for those who may read Events of Nodes.
		r.log.Warn("script failed", "script", s.name, "failures", failures, "reason", result.failure)
		r.set(s, registryv1alpha1.ScriptFailed, result.failure)
		r.notify.failed(ctx, node, s, result)
		if !r.pause(ctx, p) {
			return false
		}
	}
}

// once runs a script. One that takes its time is shown as running.
func (r *Runner) runOnce(ctx context.Context, s script, failures int) outcome {
	shown := make(chan struct{})
	slow := time.AfterFunc(time.Second, func() {
		defer close(shown)
		r.started(s)
	})
	result := r.bash.run(ctx, s, failures >= traceFrom)
	if !slow.Stop() {
		<-shown // it must not come after what is said of the end
	}
	return result
}

// pause waits until a failed script is to be tried again. It is false when the
// plan has changed meanwhile.
func (r *Runner) pause(ctx context.Context, p plan) bool {
	again := time.NewTimer(r.cfg.Retry)
	defer again.Stop()
	for {
		select {
		case <-again.C:
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
