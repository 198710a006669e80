package precheck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// atOnce is how many images are asked for at a time. Some registries refuse
// more.
const atOnce = 3

const defaultTimeout = 30 * time.Second

// keptFailures is how many failures a report names at most.
const keptFailures = 5

// maxStreak is how many refusals in a row make us doubt the registry.
const maxStreak = 5

// Transport makes the RoundTripper for one upstream, with its CA, credentials
// and time limits. Requests have the upstream's real URL.
type Transport func(upstream.Upstream) (http.RoundTripper, error)

// Request is what to look for, and where.
type Request struct {
	// Fingerprint identifies the request; the report carries it.
	Fingerprint string
	Upstream    upstream.Upstream
	// Images below the upstream's path: ":tag", "@sha256:...",
	// "name@sha256:..." or "name:tag". None: only access is checked.
	Images []string
	// Sources say for messages what needs an image. An image without a source
	// is its own.
	Sources map[string]string
	// Own is our own image, as one of Images; Compare the registry that the cluster runs
	// on, if it is another one: the zero one compares nothing.
	Own     string
	Compare upstream.Upstream
	// Architectures that an index must have, as in Node.status.nodeInfo:
	// "amd64". Empty: every index is good.
	Architectures []string
}

func (r Request) same(o Request) bool {
	return r.Fingerprint == o.Fingerprint && r.sameRegistry(o) && r.Own == o.Own && r.Compare == o.Compare && slices.Equal(r.Images, o.Images)
}

// sameRegistry reports whether an image that is found for one is found for the other.
func (r Request) sameRegistry(o Request) bool {
	return r.Upstream == o.Upstream && slices.Equal(r.Architectures, o.Architectures)
}

// Checker asks one registry for manifests.
type Checker struct {
	Transport Transport
	// With, if set, is an upstream with the credentials of the moment: a request outlives
	// those that are provided.
	With func(upstream.Upstream) upstream.Upstream
	// Timeout is for one image, everything included; 0 means defaultTimeout.
	Timeout time.Duration
	// CompareTimeout is for our own image at the registry that the cluster runs on; 0
	// means compareTimeout.
	CompareTimeout time.Duration
}

// Check asks for every image once and reports what it found. It ends early when
// the registry refuses everything.
func (c Checker) Check(ctx context.Context, req Request) switchover.CheckReport {
	round := newRound(req, nil)
	c.run(ctx, round, func() {})
	return round.report(time.Now())
}

// round is how far the check of one request is.
type round struct {
	req Request

	mu      sync.Mutex
	pending []string
	failed  map[string]error
	found   []string // nil after the registry as a whole failed
	done    int
	// streak is how many answers in a row were refusals. A registry that fails in
	// the middle is not asked for all the rest: each would take its time limit.
	streak  int
	problem error
	saving  saving
}

// newRound begins one. Images that are believed to be there are not asked for.
func newRound(req Request, believed map[string]bool) *round {
	all := distinct(req.Images)
	pending := slices.DeleteFunc(slices.Clone(all), func(image string) bool { return believed[image] })
	return &round{req: req, pending: pending, failed: map[string]error{}, found: []string{}, done: len(all) - len(pending)}
}

// answered are the images that were found by asking; nil if the registry as a whole
// failed.
func (r *round) answered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

// run asks for all pending images once. Those that fail stay pending. It calls
// progress after each answer.
func (c Checker) run(ctx context.Context, r *round, progress func()) {
	r.mu.Lock()
	r.req.Upstream = c.with(r.req.Upstream)
	r.mu.Unlock()
	if r.pauses(r.waiting()) {
		progress()
		return
	}
	reg, err := c.Open(r.req.Upstream)
	if err == nil {
		reg.Heard = r.heard
		if idle, ok := reg.Transport.(interface{ CloseIdleConnections() }); ok {
			defer idle.CloseIdleConnections()
		}
		err = c.checkAccess(ctx, reg, r)
	}
	r.mu.Lock()
	if r.problem = err; err != nil && ctx.Err() == nil {
		r.found = nil
	}
	todo := r.pending
	r.mu.Unlock()
	progress()
	if err != nil || len(todo) == 0 {
		return
	}
	queue := make(chan string)
	var workers sync.WaitGroup
	for range min(atOnce, len(todo)) {
		workers.Go(func() {
			for image := range queue {
				if err := r.record(image, c.one(ctx, reg, image, r.req.Architectures)); err != nil {
					r.doubt(err, c.within(ctx, reg.Ping))
				}
				progress()
			}
		})
	}
	for i, image := range todo {
		if ctx.Err() != nil || r.refused() || r.pauses(todo[i:]) {
			break
		}
		queue <- image
	}
	close(queue)
	workers.Wait()
	r.settle(ctx.Err())
}

// checkAccess makes one request before all others. A registry that cannot be
// reached or refuses our credentials is one problem, not 157 missing images. And
// a registry that locks accounts sees one wrong password and not 157.
func (c Checker) checkAccess(ctx context.Context, reg judge.Registry, r *round) error {
	r.mu.Lock()
	first := r.pending[:min(len(r.pending), 1)]
	r.mu.Unlock()
	if len(first) == 0 {
		return c.within(ctx, reg.Ping)
	}
	refusal := c.one(ctx, reg, first[0], nil)
	// Some registries answer 401 or 403 for an image that they do not have.
	if ctx.Err() == nil && !refusesAll(refusal) || c.within(ctx, reg.Ping) == nil {
		return nil
	}
	return refusal
}

func (c Checker) one(ctx context.Context, reg judge.Registry, image string, architectures []string) error {
	return c.within(ctx, func(ctx context.Context) error { return reg.Image(ctx, image, architectures) })
}

func (c Checker) within(ctx context.Context, do func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, defaultTimeout))
	defer cancel()
	err := do(limited)
	if err != nil && ctx.Err() == nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return errTimeout
	}
	return err
}

// record notes the answer for one image. It returns the last of a streak of refusals:
// then it is to be found out whether the registry has failed.
func (r *round) record(image string, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.done++
		r.found = append(r.found, image)
		r.streak = 0
		delete(r.failed, image)
		return nil
	}
	r.failed[image] = err
	if !refusesAll(err) {
		r.streak = 0
		return nil
	}
	if r.streak++; r.streak < maxStreak || r.problem != nil {
		return nil
	}
	return err
}

// doubt ends the round by a streak of refusals, unless they are only about what was
// asked for: some registries answer 401 for all that they do not have, and good
// credentials are not to blame. accepted is what the registry said to us in general.
func (r *round) doubt(refusal, accepted error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if judge.Of(refusal).Refusal() && accepted == nil {
		r.streak = 0
		return
	}
	r.problem = refusal
}

func (r *round) refused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem != nil
}

// settle leaves as pending what was not found. Images that an interrupted round
// did not ask for are not failures.
func (r *round) settle(interrupted error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.problem != nil {
		r.found = nil
	}
	if r.problem == nil && interrupted != nil {
		r.problem = fmt.Errorf("the check was interrupted: %w", interrupted)
	}
	if r.problem != nil {
		// Some images were perhaps not asked for. The next round asks for all.
		r.pending, r.done, r.streak = distinct(r.req.Images), 0, 0
		r.failed, r.saving.left = map[string]error{}, nil
		return
	}
	r.pending = distinct(slices.AppendSeq(slices.Clone(r.saving.left), maps.Keys(r.failed)))
}

// report is the state of the round. It is final, and has a time, when everything
// was found.
func (r *round) report(now time.Time) switchover.CheckReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	report := switchover.CheckReport{
		Fingerprint:  r.req.Fingerprint,
		Total:        len(distinct(r.req.Images)),
		Done:         r.done,
		FailureCount: len(r.failed),
	}
	if r.problem != nil {
		report.Problem = safe(r.problem, r.req.Upstream)
		return report
	}
	if len(r.saving.left) > 0 {
		report.Problem = fmt.Sprintf("%d of %d items processed; the check pauses: the registry allows %s, and those are for pulls",
			report.Done, report.Total, r.saving.said)
		return report
	}
	images := slices.Sorted(maps.Keys(r.failed))
	for _, image := range images[:min(len(images), keptFailures)] {
		report.Failures = append(report.Failures, switchover.CheckFailure{
			Source: foreign.Line(source(r.req, image), foreign.Word),
			Image:  foreign.Line(layout.NameOf(r.req.Upstream).Reference(image), foreign.Word),
			Error:  safe(ofImage(r.failed[image]), r.req.Upstream),
		})
	}
	if report.Done == report.Total {
		report.At = now
	}
	return report
}

// ofImage is the error of one image at a registry that accepts us.
func ofImage(err error) error {
	if !judge.Of(err).Refusal() {
		return err
	}
	return fmt.Errorf("%w; it accepts us in general, so that it does not have the image, or keeps it from this account", err)
}

func source(req Request, image string) string {
	if s := req.Sources[image]; s != "" {
		return s
	}
	return "image " + layout.NameOf(req.Upstream).Reference(image)
}

func distinct(images []string) []string {
	out := slices.Clone(images)
	slices.Sort(out)
	return slices.Compact(out)
}
