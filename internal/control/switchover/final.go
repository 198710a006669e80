package switchover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// mayShrink is what Final asks for before it takes anything away, in one pass
// and in this order: the barrier holds now, a live look at what is in use, and
// a complete check of all of it against the target.
func mayShrink(x *evaluation) verdict {
	if v := x.rules.safeNow(x); !v.done {
		return v
	}
	census := x.w.Census
	switch {
	case census.Problem != "":
		return wait(census.Problem)
	case !census.Live:
		return wait("Looking for images in use")
	}
	request := checkRequest(x.s, x.w)
	if !x.w.FinalCheck.passed(request) {
		return wait(checkMessage(request, x.w.FinalCheck))
	}
	return done("")
}

// namesInUse are the names that the target needs and those that something
// still refers to: workloads that we may not touch, revisions that may be
// rolled back to, bare pods. They go on working, served by the target.
func namesInUse(x *evaluation) []layout.Name {
	kept := ownNames(x.s.Target)
	if x.s.Desired.Proxy {
		kept = withNames(kept, layout.Fixed()) // its clients may still come
	}
	for _, r := range x.w.Census.References {
		kept = withNames(kept, r.Name)
	}
	return kept
}

// NeedsLive reports whether the next Advance could shrink something, so that
// the controller should look closely first: a live census (World.Census.Live),
// then a complete check of what CheckRequest says (World.FinalCheck), both in
// this pass. The state is the stored one.
func (p Protocol) NeedsLive(s State, w Observed) bool {
	plan := p.plans[s.Target.Mode]
	x := &evaluation{Protocol: p, w: w, was: s, s: s}
	if x.lost() || x.untouched() {
		return false
	}
	x.exclude()
	if s.settled(plan) {
		return x.asksForLegacy() && x.keepsNames() || x.namesAreDue() && x.rules.safeNow(x).done
	}
	for _, step := range plan {
		switch {
		case step.name == names.ConditionFinal && s.Finalized == 0:
			return x.rules.safeNow(x).done
		case step.name == names.ConditionCleanup && !s.Desired.Proxy && !w.Proxy.Exists:
			return x.namesAreDue() && x.rules.safeNow(x).done
		case !x.passed(step.name):
			return false
		}
	}
	return false
}

// CheckRequest is the image check that is needed now: for the first step while
// it is not done, and, with a live census, for Final. It is zero when there is
// nothing to check.
func (p Protocol) CheckRequest(s State, w Observed) CheckRequest {
	x := &evaluation{Protocol: p, w: w, was: s, s: s}
	if s.Target.IsZero() || x.passed(names.ConditionImages) && !p.NeedsLive(s, w) {
		return CheckRequest{}
	}
	return checkRequest(s, w)
}

// checkRequest asks the target for every image in use under any known name,
// and for those that are listed as required.
func checkRequest(s State, w Observed) CheckRequest {
	images := slices.Clone(w.Census.Required)
	for _, r := range w.Census.References {
		images = append(images, r.Image)
	}
	slices.Sort(images)
	return CheckRequest{Upstream: s.Target.Upstream, Images: slices.Compact(images)}
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
	data, err := json.Marshal(struct {
		Upstream upstream.Upstream
		Images   []string
	}{r.Upstream, r.Images})
	if err != nil {
		// Strings only: encoding them cannot fail.
		panic(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// passed reports whether the report says that all that was asked for is there.
func (c CheckReport) passed(r CheckRequest) bool {
	return c.Fingerprint != "" && c.Fingerprint == r.Fingerprint() && !c.At.IsZero() &&
		c.Problem == "" && c.FailureCount == 0 && c.Done == c.Total
}
