package hosts

import (
	"context"

	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
)

// warnUsers reports what users should know about what they wrote.
func warnUsers(r *report.Report, p usermirror.Plan) {
	for _, c := range p.Claims {
		r.Warn(c.Text)
	}
	for _, problem := range p.Problems {
		r.Warn(problem.String())
	}
}

// serveUsers hands the users' mirrors to the serving half, and reports whether it
// has them: only then may containerd be sent there.
func (k *Keeper) serveUsers(ctx context.Context, r *report.Report, serve Server, routes []upstream.UserHost) bool {
	changed, err := k.o.State.SaveMirrors(routes)
	if changed {
		k.mirrorsServed = false
	}
	if err == nil && !k.mirrorsServed {
		err = serve.Mirrors(ctx)
	}
	if err != nil {
		r.Problemf("users' mirrors: %s", report.Brief(err))
		return false
	}
	k.mirrorsServed = true
	return true
}

// markUsers puts our blocks into users' files, or takes them out, and reports
// whether all are as planned.
func (k *Keeper) markUsers(r *report.Report, p usermirror.Plan) bool {
	res, err := p.Apply()
	if res.Changed() {
		k.o.Log.Info("users' host directories", "lead here", res.Written, "given back", res.Restored)
	}
	for _, problem := range res.Problems {
		r.Warn(problem.String())
	}
	r.Retry = r.Retry || res.Again // a user is writing a file at this moment
	if err != nil {
		r.Problemf("%v", err)
	}
	return err == nil
}
