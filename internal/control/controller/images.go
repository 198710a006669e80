package controller

import (
	"context"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

const (
	// liveMin and liveMax limit the pause after a live check that failed. A live
	// check lists the whole cluster and asks the registry for every image, and
	// events may come at any rate.
	liveMin = 250 * time.Millisecond
	liveMax = 10 * time.Second
)

// images asks registries for images: in the background, and within a pass.
type images struct {
	own    string // the module's own image below a registry's base
	check  precheck.Checker
	runner *precheck.Runner
	live   liveCheck
}

// liveCheck is the last live check, if it failed: the step that waits for it, and
// what that step said.
type liveCheck struct {
	step, message string
	generation    int64
	at            time.Time
	failures      int
}

// request completes a request with what only the cluster knows.
func (i *images) request(req switchover.CheckRequest, v *state.View, inv *cluster.Inventory) precheck.Request {
	if req.IsZero() {
		return precheck.Request{}
	}
	var architectures []string
	for n := range v.Nodes {
		if a := v.Nodes[n].Status.NodeInfo.Architecture; a != "" && cluster.WantsAgent(&v.Nodes[n]) {
			architectures = append(architectures, a)
		}
	}
	slices.Sort(architectures)
	return precheck.Request{
		Fingerprint:   req.Fingerprint(),
		Upstream:      req.Upstream,
		Images:        req.Images,
		Own:           req.Own,
		Compare:       req.Compare,
		Sources:       platform.Sources(inv, v.Observed.Census, i.own),
		Architectures: slices.Compact(architectures),
	}
}

// now makes one check within the pass. Inv says what needs the images.
func (i *images) now(ctx context.Context, v *state.View, req switchover.CheckRequest, inv *cluster.Inventory) switchover.CheckReport {
	return i.check.Check(ctx, i.request(req, v, inv))
}

// pause is how long to wait before the next live check, and what the step said
// after the last one; 0 when the check may be made now.
func (l liveCheck) pause(doc state.Document, now time.Time) (time.Duration, string) {
	if l.failures == 0 || l.generation != doc.Generation || doc.WaitsAt().Type != l.step {
		return 0, ""
	}
	wait := min(liveMin<<min(l.failures-1, 10), liveMax)
	return max(0, l.at.Add(wait).Sub(now)), l.message
}

// remember remembers whether the live check of this pass failed, if there was one.
// Doc is the new document.
func (i *images) remember(o switchover.Observed, doc state.Document) {
	if !o.Census.Live {
		return
	}
	waits := doc.WaitsAt()
	if waits.Type == "" || o.Census.Problem == "" && o.FinalCheck.FailureCount == 0 && o.FinalCheck.Problem == "" {
		i.live = liveCheck{}
		return
	}
	if i.live.step != waits.Type || i.live.generation != doc.Generation {
		i.live = liveCheck{}
	}
	i.live = liveCheck{step: waits.Type, message: waits.Message, generation: doc.Generation, at: o.Now, failures: i.live.failures + 1}
}
