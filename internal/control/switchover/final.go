package switchover

import (
	"slices"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// mayShrink is what Final needs before it takes anything away, in one pass and
// in this order: the barrier is met now, a live look at what is in use, and a
// complete check of all of it against the target.
func mayShrink(e *evaluation) verdict {
	if v := e.rules.safeNow(e); !v.done {
		return v
	}
	census := e.seen.Census
	switch {
	case census.Problem != "":
		return wait(foreign.Line(census.Problem, mostMessage))
	case !census.Live:
		return wait("Looking for images in use")
	}
	request := e.checkRequest()
	if !e.seen.FinalCheck.passed(request) {
		return wait(checkMessage(request, e.seen.FinalCheck))
	}
	return done("")
}

// namesInUse are the names that the target needs and those that something
// still refers to: workloads that we may not touch, revisions that may be
// rolled back to, bare pods. They go on working, served by the target.
func namesInUse(e *evaluation) []layout.Name {
	kept := e.ownNames(e.s.Target)
	if e.s.Desired.Proxy {
		kept = withNames(kept, layout.Fixed()) // its clients may still use it
	}
	for _, r := range e.seen.Census.References {
		kept = withNames(kept, r.Name)
	}
	return kept
}

// NeedsLive reports whether the next Advance could shrink something, so that
// the controller should look closely first: a live census
// (Observed.Census.Live), then a complete check of what CheckRequest says
// (Observed.FinalCheck), both in this pass. The state is the stored one.
func (p Protocol) NeedsLive(s State, seen Observed) bool {
	plan := p.modes[s.Target.Mode].plan
	e := &evaluation{Protocol: p, seen: seen, was: s, s: s}
	if e.lost() || e.untouched() {
		return false
	}
	e.exclude()
	if s.settled(plan) {
		return e.asksForLegacy() && e.keepsNames() || e.namesAreDue() && e.rules.safeNow(e).done
	}
	for _, step := range plan {
		switch {
		case step.name == names.ConditionFinal && s.Finalized == 0:
			return e.rules.safeNow(e).done
		case step.name == names.ConditionCleanup && !s.Desired.Proxy && !seen.Proxy.Exists:
			return e.namesAreDue() && e.rules.safeNow(e).done
		case !e.s.passed(step.name):
			return false
		}
	}
	return false
}

// CheckRequest is the image check that is needed now: for the first step while
// it is not done, and, with a live census, for Final. It is zero when there is
// nothing to check.
func (p Protocol) CheckRequest(s State, seen Observed) CheckRequest {
	e := &evaluation{Protocol: p, seen: seen, was: s, s: s}
	if s.Target.IsZero() || e.s.passed(names.ConditionImages) && !p.NeedsLive(s, seen) {
		return CheckRequest{}
	}
	return e.checkRequest()
}

// checkRequest asks the target for every image that the platform uses under any
// known name, and for those that are listed as required.
func (e *evaluation) checkRequest() CheckRequest {
	images := slices.Clone(e.seen.Census.Required)
	for _, r := range e.seen.Census.References {
		if e.rules.gates(e, r) {
			images = append(images, r.Image)
		}
	}
	slices.Sort(images)
	request := CheckRequest{Upstream: e.s.Target.Upstream, Images: slices.Compact(images), Own: e.seen.Probe}
	if old := e.s.Active.Upstream; !old.IsZero() && layout.NameOf(old) != layout.NameOf(request.Upstream) {
		request.Compare = old
	}
	return request
}

// gates reports whether a switch waits for what a reference needs. Everybody who
// may make a Pod can refer to an image that is nowhere. A node's sandbox image is
// needed by every pod on it, and its owner can hold a barrier up anyway: it counts
// until the operator excludes the node.
func gates(e *evaluation, r Reference) bool {
	if r.Node != "" {
		return slices.ContainsFunc(e.seen.Nodes, func(n Node) bool { return n.Name == r.Node && n.Agent && !n.Exclude })
	}
	return !r.Foreign && !r.Ignored
}

// IsZero reports whether nothing is to be checked.
func (r CheckRequest) IsZero() bool { return r.Upstream.IsZero() }

// Fingerprint names the request by content: a SHA-256 in hex over registry,
// credentials and images. It is for Secrets, not for logs; empty for the zero
// request.
func (r CheckRequest) Fingerprint() string {
	if r.IsZero() {
		return ""
	}
	return upstream.Digest(struct {
		Upstream upstream.Upstream
		Images   []string
	}{r.Upstream, r.Images})
}

// passed reports whether the report says that all that was asked for is there.
func (c CheckReport) passed(r CheckRequest) bool {
	return c.Fingerprint != "" && c.Fingerprint == r.Fingerprint() && !c.At.IsZero() &&
		c.Problem == "" && c.OwnDiffers == "" && c.FailureCount == 0 && c.Done == c.Total
}
