package switchover

import (
	"slices"
	"time"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// freshCheck is how old a check may be that something is taken away for. A check of
// thousands of images takes time, and what follows it may wait.
const freshCheck = 10 * time.Minute

// mayShrink is what Final needs before it takes anything away. In one pass: the
// barrier is met now, by nodes and reports that were just read from the API server,
// as everything was that may be in use; and the target has all of that, by a check
// that passed a moment ago. The check may take long, so it ends before: the look of
// this pass is another one than that which it was made for.
func mayShrink(e *evaluation) verdict {
	if v := e.rules.safeNow(e); !v.done {
		return v
	}
	census, check := e.seen.Census, e.seen.Check
	switch {
	case census.Problem != "":
		return wait(foreign.Line(census.Problem, mostMessage))
	case !census.Live && (check.Fingerprint == "" || !check.At.IsZero()):
		return wait("Looking for images in use")
	case !census.Live:
		return wait(progressMessage(e.s.Target.Upstream.Host, check))
	}
	request := e.checkRequest()
	switch {
	case !check.passed(request):
		return wait(checkMessage(request, check))
	case e.seen.Now.Sub(check.At).Abs() > freshCheck:
		return wait(checkMessage(request, CheckReport{})) // it is made again
	}
	return done("")
}

// namesInUse are the names that the target needs and those that something
// still refers to: workloads that we may not touch, revisions that may be
// rolled back to, bare pods. They go on working, served by the target.
func namesInUse(e *evaluation) []layout.Name {
	kept := e.ownNames(e.s.Target)
	if e.s.Desired.Proxy || !e.s.Desired.Store.IsZero() {
		kept = withNames(kept, layout.Fixed()) // its clients may still use it
	}
	for _, r := range e.seen.Census.References {
		kept = withNames(kept, r.Name)
	}
	return kept
}

// NeedsLive reports whether the controller should look closely before the next
// Advance, because it could take something away: Observed.Nodes and Observed.Census
// past all caches (Census.Live). The look is made twice: for a check in the
// background of what CheckRequest says, and again when that has ended. The state is
// the stored one.
func (p Protocol) NeedsLive(s State, seen Observed) bool {
	e := p.evaluate(s, seen)
	if p.AsksForLegacy(s, seen) && e.keepsNames() {
		return true
	}
	if seen.Check.underWay() || !p.nearsShrink(s, seen) {
		return false
	}
	e.exclude()
	return e.rules.safeNow(e).done
}

// AsksForLegacy reports whether the user wants nodes back in the legacy format. What
// is looked at for that is looked at once.
func (p Protocol) AsksForLegacy(s State, seen Observed) bool {
	e := p.evaluate(s, seen)
	return s.settled(p.modes[s.Target.Mode].plan) && !e.lost() && !e.untouched() && e.asksForLegacy()
}

// nearsShrink reports whether the next step takes something away, once the barrier
// lets it.
func (p Protocol) nearsShrink(s State, seen Observed) bool {
	plan := p.modes[s.Target.Mode].plan
	e := p.evaluate(s, seen)
	if e.lost() || e.untouched() {
		return false
	}
	if s.settled(plan) {
		return e.namesAreDue()
	}
	for _, step := range plan {
		switch {
		case step.name == names.ConditionFinal && s.Finalized == 0:
			return true
		case e.s.passed(step.name):
		case step.name == names.ConditionCleanup:
			return !s.Desired.Proxy && !seen.Proxy.Exists && e.namesAreDue()
		case step.name == names.ConditionCleanupStores:
			return s.Desired.Store.IsZero() && !seen.Store.Exists && e.namesAreDue()
		default:
			return false
		}
	}
	return false
}

// CheckRequest is the image check that is needed now: for the first step while it is
// not done, and of what a close look found. It is zero when none is to be begun; see
// KeepsCheck.
func (p Protocol) CheckRequest(s State, seen Observed) CheckRequest {
	e := p.evaluate(s, seen)
	switch {
	case s.Target.IsZero():
	case !e.s.passed(names.ConditionImages):
		return e.checkRequest()
	case seen.Census.Live && seen.Census.Problem == "" && p.nearsShrink(s, seen):
		request := e.checkRequest()
		request.Compare = upstream.Upstream{} // that was done, and the old registry may be gone
		return request
	}
	return CheckRequest{}
}

// KeepsCheck reports whether the check that goes on is still needed, although this
// pass looked at nothing that a request could be made of.
func (p Protocol) KeepsCheck(s State, seen Observed) bool {
	return (!seen.Census.Live || seen.Census.Problem != "") && p.nearsShrink(s, seen)
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
		if e.gating == nil { // every node of a large cluster may refer to its image
			e.gating = map[string]bool{}
			for _, n := range e.seen.Nodes {
				e.gating[n.Name] = n.Agent && !n.Exclude
			}
		}
		return e.gating[r.Node]
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

// underWay reports whether a check goes on, and could still pass as it is.
func (c CheckReport) underWay() bool {
	return c.Fingerprint != "" && c.At.IsZero() && c.Problem == "" && c.FailureCount == 0
}

// passed reports whether the report says that all that was asked for is there.
func (c CheckReport) passed(r CheckRequest) bool {
	return c.Fingerprint != "" && c.Fingerprint == r.Fingerprint() && !c.At.IsZero() &&
		c.Problem == "" && c.OwnDiffers == "" && c.FailureCount == 0 && c.Done == c.Total
}
