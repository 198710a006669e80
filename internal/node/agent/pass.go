package agent

import (
	"context"

	"github.com/d8-registry/registry/internal/node/report"
)

// pass looks at the node, does what is to be done, and reports.
func (a *Agent) pass(ctx context.Context) (o outcome) {
	a.watchdog.Do("a pass", func() {
		r := a.report.Begin()
		generation := a.work(ctx, r)
		a.report.Finish(ctx, r)
		o = outcome{
			generation: generation, stopped: ctx.Err() != nil, again: r.Again,
			retry: r.Retry || r.Hold, problems: len(r.Problems()) > 0,
		}
	})
	return o
}

// work is a pass without its beginning and its end. It returns the generation of
// the layout that it worked for.
func (a *Agent) work(ctx context.Context, r *report.Report) (generation int64) {
	if a.cleanup.begun(r.Own) {
		a.cleanup.run(ctx, r)
		return 0
	}
	a.scripts.report(r)
	a.store.Converge(ctx, r)
	facts := a.containerd.look(ctx, r)
	l, s := a.serving.look(r)
	switch {
	case facts == nil || s == nil:
		a.resume(ctx, r, l, s)
	case l.IsZero():
		a.withoutLayout(ctx, r, s, facts)
	case revertOrdered(r.Own, l, s.status):
		a.revert(ctx, r, l, s, facts)
	default:
		a.converge(ctx, r, l, s, facts)
	}
	return l.Generation
}
