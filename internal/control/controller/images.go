package controller

import (
	"cmp"
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
	// liveMin and liveMax limit the pause between close looks that did not end their
	// step. Each lists the whole cluster, and events may come at any rate.
	liveMin = 250 * time.Millisecond
	liveMax = 10 * time.Second
	// answersWithin is the timeout of the last word. A pass waits for it.
	answersWithin = 10 * time.Second
)

// images asks registries for images: in the background, and for our own within a pass.
type images struct {
	own    string // the module's own image below a registry's base
	check  precheck.Checker
	runner *precheck.Runner
	live   liveCheck
}

// liveCheck is the close looks of a step so far: how many, when the last one was, and
// what the step said of it if something was wrong.
type liveCheck struct {
	step       string
	generation int64
	looks      int
	at         time.Time
	problem    string
}

// want sets what is to be checked, as the new document says.
func (i *images) want(p switchover.Protocol, v *state.View) {
	if p.KeepsCheck(v.Doc.State, v.Observed) {
		return
	}
	i.runner.Want(i.request(p.CheckRequest(v.Doc.State, v.Observed), v))
}

// request completes a request with what only the cluster knows.
func (i *images) request(req switchover.CheckRequest, v *state.View) precheck.Request {
	if req.IsZero() {
		return precheck.Request{}
	}
	inv := cmp.Or(v.Close, v.Inventory)
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

// lastWord asks the target for our own image, now that its check has passed: it may
// have died since, and what it would be alone with is about to be taken away.
func (i *images) lastWord(ctx context.Context, v *state.View, passed switchover.CheckRequest) {
	asked, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	report := i.check.Check(asked, i.request(switchover.CheckRequest{Upstream: passed.Upstream, Images: []string{i.own}}, v))
	if !report.At.IsZero() {
		return
	}
	problem := report.Problem
	if len(report.Failures) > 0 {
		problem = cmp.Or(problem, report.Failures[0].Image+": "+report.Failures[0].Error)
	}
	check := &v.Observed.Check
	check.At, check.Problem = time.Time{}, cmp.Or(problem, "no answer")
	v.Again = true
}

// pause is how long to wait before the next close look, and what was wrong with the
// last one; 0 when it may be made now. The first two follow each other at once: the
// check that is made in between has its own pace.
func (l liveCheck) pause(doc state.Document, now time.Time) (time.Duration, string) {
	if l.looks < 2 || l.generation != doc.Generation || doc.WaitsAt().Type != l.step {
		return 0, ""
	}
	wait := min(liveMin<<min(l.looks-2, 10), liveMax)
	return max(0, l.at.Add(wait).Sub(now)), l.problem
}

// remember counts the close look of this pass, if there was one. Doc is the new
// document.
func (i *images) remember(o switchover.Observed, doc state.Document) {
	if !o.Census.Live {
		return
	}
	waits := doc.WaitsAt()
	if i.live.step != waits.Type || i.live.generation != doc.Generation {
		i.live = liveCheck{step: waits.Type, generation: doc.Generation}
	}
	i.live.looks++
	i.live.at, i.live.problem = o.Now, ""
	if o.Census.Problem != "" || o.Check.Problem != "" {
		i.live.problem = waits.Message
	}
}
