package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

const (
	// patience is how long the other half or containerd may be silent, as in a
	// restart, before the report says so.
	patience = 10 * time.Second
	// soon and later are between two passes that do not get through.
	soon  = time.Second
	later = 30 * time.Second
)

// view is one pass under way.
type view struct {
	own      *registryv1alpha1.RegistryNode // nil while there is none
	status   registryv1alpha1.RegistryNodeStatus
	problems []string
	hold     bool // nothing is reported yet: it may be over in a moment
	retry    bool
	again    bool // containerd is another one now: what was found is of no use
}

func (v *view) trouble(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

func (v *view) warn(sentences ...string) {
	v.status.Warnings = append(v.status.Warnings, sentences...)
}

// pass looks at the node, does what is to be done and reports. It returns when
// the next pass is due if nothing wakes it before. The order is the protocol:
// host directories, removals acknowledged, containerd's main file, proof,
// target, report.
func (a *Agent) pass(ctx context.Context) time.Duration {
	v := a.begin()
	if a.dismissed(v.own) {
		a.dismiss(ctx, v)
		return a.finish(ctx, v)
	}
	facts := a.lookAtContainerd(ctx, v)
	l, s := a.lookAtServe(v)
	if l.Generation != a.seen {
		a.seen, a.failing = l.Generation, time.Time{} // a new try
	}
	switch {
	case facts == nil || s == nil:
		a.finishChange(ctx, v, l, s)
	case l.IsZero():
		a.before(ctx, v, s, facts)
	case legacy(v.own, l, s.status):
		a.leave(ctx, v, l, s, facts)
	default:
		a.bring(ctx, v, l, s, facts)
	}
	return a.finish(ctx, v)
}

// begin is what a report says whatever is found.
func (a *Agent) begin() *view {
	v := &view{own: a.report.latest()}
	a.adopt(v.own)
	v.status.AgentVersion, v.status.AgentPod, v.status.BootID = a.cfg.Version, a.cfg.PodUID, a.cfg.BootID
	v.status.NodeUID = nodeUID(v.own)
	v.status.Containerd.SourceDirectory = a.cfg.SourceDir
	a.lookAtScripts(v)
	return v
}

// finish reports what the pass came to.
func (a *Agent) finish(ctx context.Context, v *view) time.Duration {
	v.status.Generation, v.status.Version = a.standing.generation, a.standing.version
	v.status.Message = strings.Join(v.problems, "; ")
	v.status.Warnings = tidy(v.status.Warnings)
	if ctx.Err() != nil {
		return later
	}
	if v.again {
		return 0
	}
	if !v.hold && v.own != nil {
		if err := a.report.write(ctx, v.status); err != nil {
			a.log.Warn("report not written", "err", err)
			v.retry = true
		}
	}
	return a.next(v)
}

// next is when to look again: soon after a trouble began, and less and less
// often while it lasts.
func (a *Agent) next(v *view) time.Duration {
	if v.retry || v.hold {
		if a.failing.IsZero() {
			a.failing = a.now()
		}
		return max(soon, min(a.now().Sub(a.failing)/2, later))
	}
	a.failing = time.Time{}
	if len(v.problems) > 0 {
		return later
	}
	return a.cfg.ProofInterval / 2
}

// passing reports whether a trouble is so fresh that it may be a restart.
func (a *Agent) passing(what string, there bool) bool {
	if !there {
		delete(a.since, what)
		return false
	}
	if a.since[what].IsZero() {
		a.since[what] = a.now()
	}
	return a.now().Sub(a.since[what]) < patience
}

// mostWarnings is what a RegistryNode takes.
const mostWarnings = 20

// tidy keeps each warning once, and no more than may be told.
func tidy(warnings []string) []string {
	var out []string
	told := map[string]bool{}
	for _, w := range warnings {
		if !told[w] && len(out) < mostWarnings {
			out = append(out, w)
		}
		told[w] = true
	}
	return out
}
