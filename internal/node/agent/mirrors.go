package agent

import (
	"context"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
)

// users is what is to be done about users' host directories; nothing of ours is
// wanted in them without a layout.
func (a *Agent) users(facts *containerd.Facts, l layout.Layout, o hostsdir.Options) usermirror.Plan {
	node := usermirror.Node{Root: a.seenBy(facts, "/"), Source: a.cfg.SourceDir, Effective: directory(facts)}
	return usermirror.NewPlan(node, l, o)
}

// tellOfUsers says what users should know of what they wrote.
func tellOfUsers(v *view, p usermirror.Plan) {
	for _, c := range p.Claims {
		v.warn(c.Text)
	}
	for _, problem := range p.Problems {
		v.warn(problem.String())
	}
}

// serveUsers hands the users' mirrors over, and reports whether the serving half
// has them: from then on containerd may be sent there.
func (a *Agent) serveUsers(ctx context.Context, v *view, s *served, routes []upstream.UserHost) bool {
	changed, err := a.folder.SaveMirrors(routes)
	if changed {
		a.toldOfUsers = false
	}
	if err == nil && !a.toldOfUsers {
		err = s.client.Mirrors(ctx)
	}
	if err != nil {
		v.trouble("users' mirrors: %s", brief(err))
		return false
	}
	a.toldOfUsers = true
	return true
}

// markUsers puts our blocks into users' files, or takes them out, and reports
// whether all are as planned.
func (a *Agent) markUsers(v *view, p usermirror.Plan) bool {
	res, err := p.Apply()
	if res.Changed() {
		a.log.Info("users' host directories", "lead here", res.Written, "given back", res.Restored)
	}
	for _, problem := range res.Problems {
		v.warn(problem.String())
	}
	v.retry = v.retry || res.Again // somebody is just writing
	if err != nil {
		v.trouble("%v", err)
	}
	return err == nil
}
