package agent

import (
	"context"
	"fmt"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/hosts"
	"github.com/d8-registry/registry/internal/node/proof"
	"github.com/d8-registry/registry/internal/node/reach"
	"github.com/d8-registry/registry/internal/node/report"
)

// converge makes the node what the layout wants, and notes what is proved. The
// order is the protocol: host directories, names that are gone acknowledged,
// proof, containerd's main file, target. Host directories come before the main
// file, so that they are there when containerd looks for them the first time.
func (a *Agent) converge(ctx context.Context, r *report.Report, l layout.Layout, s *served, facts *containerd.Facts) {
	if facts.HostsDir == "" {
		r.Disprove()
		a.change.Converge(ctx, r, configchange.Task{Facts: facts})
		return
	}
	setUp := a.setUp(ctx, r, l, s, facts)
	tolerated := !setUp && r.Tolerated("directories") // before the proof, which may take longer than that
	proved, lost := a.proofs.All(ctx, r, proof.Question{Layout: l, Serve: s.client, Facts: facts, SetUp: setUp})
	a.changeMainFile(ctx, r, setUp, tolerated, configchange.Task{Facts: facts, Lost: lost, Prove: a.proveChange(l, s)})
	if r.Again {
		return
	}
	if setUp && proved {
		a.hosts.CleanUp(r, facts)
	}
	answers := a.reach.Check(ctx, r, l)
	reach.Fails(r, l, s.status.TargetFails)
	switch {
	case !setUp || !proved:
	case answers || a.reachedBefore(r, l, s):
		r.Prove(report.LastProved{Generation: l.Generation, Version: s.status.Version, Names: names(l)})
		if answers {
			a.memory.saveReached(reachedNow(r, l, s))
		}
	default:
		r.Status.Served = l.Generation
	}
	r.Retry = r.Retry || !setUp || !proved || !answers
}

// reachedBefore reports whether the target of this very layout need not answer for
// the node to stay proved, or to be it again after a reboot: it did so once. The
// target may run in this cluster, and wait for this node.
func (a *Agent) reachedBefore(r *report.Report, l layout.Layout, s *served) bool {
	return r.Proved().Generation == l.Generation || a.memory.Reached == reachedNow(r, l, s)
}

func reachedNow(r *report.Report, l layout.Layout, s *served) reached {
	return reached{NodeUID: r.Status.NodeUID, Generation: l.Generation, Version: s.status.Version}
}

// setUp makes the host directories what the layout and the users want, and
// reports whether they are.
func (a *Agent) setUp(ctx context.Context, r *report.Report, l layout.Layout, s *served, facts *containerd.Facts) bool {
	agent, err := a.serving.options()
	if err != nil {
		r.Problemf("%v", err)
		return false
	}
	return a.hosts.Converge(ctx, r, hosts.Target{Layout: l, Agent: agent, Facts: facts, Serve: s.client})
}

// changeMainFile changes containerd's main file if host directories are set up. A
// change under way is kept for a moment: with directories missing, its proof would
// fail.
func (a *Agent) changeMainFile(ctx context.Context, r *report.Report, setUp, tolerated bool, t configchange.Task) {
	switch {
	case setUp:
		r.Over("directories")
		a.change.Converge(ctx, r, t)
	case tolerated:
		r.KeepRestart()
	default:
		a.change.Converge(ctx, r, configchange.Task{Facts: t.Facts})
	}
}

// resume is the pass of an agent that cannot ask containerd or the serving half.
func (a *Agent) resume(ctx context.Context, r *report.Report, l layout.Layout, s *served) {
	var prove configchange.Prove
	if s != nil && !l.IsZero() {
		prove = a.proveChange(l, s) // containerd may only be slow to start
	}
	a.change.Resume(ctx, r, prove, s != nil)
}

// proveChange is how a change of containerd's main file is proved: the new run of
// containerd looks into the directory, and comes to the agent for one name at
// least.
func (a *Agent) proveChange(l layout.Layout, s *served) configchange.Prove {
	return func(ctx context.Context, path string) error {
		if path == "" {
			return nil
		}
		a.containerd.forget()
		facts, err := a.containerd.discover(ctx)
		if err != nil {
			return err
		}
		if facts.Effective != path {
			return fmt.Errorf("containerd looks for hosts in %q and not in %s", facts.Effective, path)
		}
		q := proof.Question{Layout: l, Serve: s.client, Facts: facts, SetUp: true}
		return a.proofs.Any(ctx, q, report.NodeUID(a.report.Latest()))
	}
}

func names(l layout.Layout) []string {
	var out []string
	for _, n := range l.Names() {
		out = append(out, n.String())
	}
	return out
}
