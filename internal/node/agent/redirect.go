package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
)

// prove makes containerd ask the serving half for every name. A name that this
// node relied on and that fails takes the report back. While the host
// directories are not as wanted, or containerd looks into none of them, only
// those are asked for: all others would end up at somebody's real registry.
// lost is set when containerd was seen going elsewhere.
func (a *Agent) prove(ctx context.Context, v *view, l layout.Layout, s *served, facts *containerd.Facts, wanted bool) (all, lost bool) {
	all = true
	for _, n := range l.Names() {
		relied := slices.Contains(a.standing.names, n.String())
		err := unproved(facts, wanted)
		if err == nil || relied {
			err = a.proveName(ctx, s, facts, l, n, v.status.NodeUID)
		}
		r := registryv1alpha1.RedirectStatus{Name: n.String(), Proved: err == nil}
		if err != nil {
			all = false
			r.Message = brief(err)
			if f := facts.ChangedSince; f != "" && errors.Is(err, errNotSeen) {
				r.Message += "; it has not read " + f + " since that was changed"
			}
			if !errors.Is(err, errNotSetUp) && !errors.Is(err, errNowhere) {
				v.trouble("%s: %s", n, r.Message)
			}
			lost = lost || errors.Is(err, errNotSeen)
			a.doubt(ctx, v, relied, err)
		}
		v.status.Redirects = append(v.status.Redirects, r)
	}
	if !v.hold {
		a.passing("proof", false)
	}
	return all, lost
}

// unproved is why there is no point in asking for a name.
func unproved(facts *containerd.Facts, wanted bool) error {
	switch {
	case !wanted:
		return errNotSetUp
	case facts.NeedsPath != "":
		return errNowhere
	}
	return nil
}

// proveName asks for one name, unless it is proved already.
func (a *Agent) proveName(ctx context.Context, s *served, facts *containerd.Facts, l layout.Layout, n layout.Name, uid string) error {
	by := asked{instance: facts.Instance, made: func(peer string) error { return a.proc.holds(facts.PID, peer) }}
	return a.proofs.prove(ctx, s.client, n, by, contentKey(facts.Folder, n.Host), nonce(uid, l.Generation))
}

// doubt takes the report back when a name that it relied on is not proved. A
// question that was not answered proves nothing for a moment: the other half or
// containerd starts again.
func (a *Agent) doubt(ctx context.Context, v *view, relied bool, err error) {
	if !relied || ctx.Err() != nil {
		return
	}
	if !errors.Is(err, errNotSeen) && !errors.Is(err, errElsewhere) && a.passing("proof", true) {
		v.hold = true
		return
	}
	a.standing = standing{}
}

// proveChange is how a change of containerd's main file is proved: the new run
// of containerd looks into the directory, and comes to the agent for one name at
// least. Names that fail for reasons of their own are for the pass after it.
func (a *Agent) proveChange(l layout.Layout, s *served) func(ctx context.Context, path string) error {
	return func(ctx context.Context, path string) error {
		if path == "" {
			return nil
		}
		a.forget.Store(true)
		if err := a.discover(ctx); err != nil {
			return err
		}
		facts := &a.known.facts
		if facts.Effective != path {
			return fmt.Errorf("containerd looks for hosts in %q and not in %s", facts.Effective, path)
		}
		var first error
		for _, n := range l.Names() {
			err := a.proveName(ctx, s, facts, l, n, nodeUID(a.report.latest()))
			if err == nil {
				return nil
			}
			if first == nil {
				first = fmt.Errorf("%s: %s", n, brief(err))
			}
		}
		return first
	}
}
