package precheck

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
)

// How long to wait after a round that did not find everything.
const (
	firstRetry = time.Second
	lastRetry  = 10 * time.Second
	// wakeEvery is how often progress alone wakes the controller.
	wakeEvery = time.Second
	// believedFor is how long an image counts as found, from the end of the round that
	// found it, for a request that differs only in images. A census changes all the
	// time: it must not make thousands of requests each time.
	believedFor = 10 * time.Minute
)

// Runner checks one request at a time in the background, until all its images
// are found.
type Runner struct {
	checker Checker
	wake    func()
	log     *slog.Logger
	now     func() time.Time

	mu      sync.Mutex
	wanted  *Request // nil: none
	changed chan struct{}
	report  switchover.CheckReport

	tags  comparisons
	found memory
}

// memory is which images of the registry that is asked were found, and when. It is
// forgotten when another registry is wanted, or none, or it fails. Forgotten is how
// often: a round that began before adds nothing.
type memory struct {
	images    map[string]time.Time
	forgotten int
}

func (m *memory) forget() { *m = memory{forgotten: m.forgotten + 1} }

// NewRunner makes a Runner that calls wake whenever its report has changed
// enough to matter. It does nothing until Run.
func NewRunner(checker Checker, now func() time.Time, wake func(), log *slog.Logger) *Runner {
	return &Runner{checker: checker, wake: wake, log: log, now: now, changed: make(chan struct{}, 1)}
}

// Want sets the request to work on. The same request again changes nothing, unless
// it passed a while ago; a different one ends the present check at once. A zero
// Request stops it.
func (r *Runner) Want(req Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case req.Upstream.IsZero():
		if r.wanted == nil {
			return
		}
		r.wanted, r.report = nil, switchover.CheckReport{}
		r.found.forget()
	case r.wanted != nil && r.wanted.same(req) && (r.report.At.IsZero() || r.report.OwnDiffers != "" || r.now().Sub(r.report.At).Abs() < believedFor/2):
		return
	default:
		if r.wanted == nil || !r.wanted.sameRegistry(req) {
			r.found.forget()
		}
		r.wanted = &req
		r.report = switchover.CheckReport{Fingerprint: req.Fingerprint, Total: len(distinct(req.Images))}
	}
	r.signal()
}

func (r *Runner) signal() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Report is the state of the current request; zero when there is none.
func (r *Runner) Report() switchover.CheckReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report
}

// Compared is the last comparison of tags that has ended.
func (r *Runner) Compared() switchover.Comparison { return r.tags.latest() }

// Run works until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	defer r.tags.running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
		}
		r.mu.Lock()
		wanted, forgotten := r.wanted, r.found.forgotten
		r.mu.Unlock()
		if wanted != nil && r.until(ctx, wanted, forgotten) {
			r.tags.begin(ctx, r.checker, *wanted, r.wake)
		}
	}
}

// until works on one request until all is found, or another request is wanted. It
// reports whether all was found. Forgotten is for remember.
func (r *Runner) until(ctx context.Context, wanted *Request, forgotten int) bool {
	ctx, cancel := context.WithCancel(ctx)
	// Another request ends this one at once.
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		for r.wants(wanted) {
			select {
			case <-ctx.Done():
				return
			case <-r.changed: // perhaps by what brought Run here
			}
		}
		r.signal() // for Run
		cancel()
	})
	round := newRound(*wanted, r.believed())
	round.saving.may = true
	defer r.remember(round, forgotten)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		comparing, stop := context.WithCancel(ctx)
		own := r.checker.compareOwn(comparing, *wanted)
		r.checker.run(ctx, round, r.progress(wanted, round))
		report := round.report(r.now())
		if report.At.IsZero() {
			stop() // nobody waits for what the old registry says
		}
		compared := own()
		report.OwnDiffers, report.OwnUnknown = compared.differs, compared.unknown
		stop()
		if ctx.Err() != nil {
			return false
		}
		r.publish(wanted, report)
		r.wake()
		if !report.At.IsZero() && report.OwnDiffers == "" {
			r.log.Info("image check passed", "upstream", wanted.Upstream.String(), "items", report.Total)
			return true
		}
		due := max(wait, round.pause(time.Now()))
		r.log.Warn("image check did not pass", "upstream", wanted.Upstream.String(),
			"found", report.Done, "items", report.Total, "err", firstError(report), "retry", due.String())
		select {
		case <-ctx.Done():
			return false
		case <-time.After(due):
		}
	}
}

// progress publishes after every image, and wakes the listener every wakeEvery.
func (r *Runner) progress(wanted *Request, round *round) func() {
	var mu sync.Mutex
	var woken time.Time
	return func() {
		now := time.Now()
		report := round.report(now)
		report.At = time.Time{} // only a round that has ended can pass
		mu.Lock()
		due := now.Sub(woken) >= wakeEvery
		if due {
			woken = now
		}
		mu.Unlock()
		r.publish(wanted, report)
		if due {
			r.wake()
		}
	}
}

func (r *Runner) publish(wanted *Request, report switchover.CheckReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted == wanted {
		r.report = report
	}
}

func (r *Runner) wants(wanted *Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted == wanted
}

// believed are the images that need not be asked for again.
func (r *Runner) believed() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	believed := map[string]bool{}
	for image, at := range r.found.images {
		believed[image] = r.now().Sub(at).Abs() < believedFor
	}
	return believed
}

// remember keeps what a round found, for the next request, unless all was forgotten
// since its request was read. What is believed is not believed for longer by that.
func (r *Runner) remember(round *round, forgotten int) {
	found := round.answered()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found.forgotten != forgotten {
		return
	}
	if found == nil {
		r.found.forget() // the registry failed: all is asked for again
		return
	}
	if r.found.images == nil {
		r.found.images = map[string]time.Time{}
	}
	for _, image := range found {
		r.found.images[image] = r.now()
	}
}

func firstError(report switchover.CheckReport) string {
	if problem := cmp.Or(report.Problem, report.OwnDiffers); problem != "" {
		return problem
	}
	if len(report.Failures) > 0 {
		return report.Failures[0].Image + ": " + report.Failures[0].Error
	}
	return ""
}
