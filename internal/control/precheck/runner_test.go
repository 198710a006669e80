package precheck

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
)

// runsUntil starts a Runner and gives a function that waits for its report.
func runsUntil(t *testing.T, c Checker) (*Runner, func(what string, ok func(switchover.CheckReport) bool)) {
	t.Helper()
	woken := make(chan struct{}, 100)
	r := NewRunner(c, time.Now, func() { woken <- struct{}{} }, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r, func(what string, ok func(switchover.CheckReport) bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); ; {
			if ok(r.Report()) {
				return
			}
			select {
			case <-woken:
			case <-deadline:
				t.Fatalf("%s: %+v", what, r.Report())
			}
		}
	}
}

func TestRunnerTriesUntilAllIsThere(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.put("/v2/sys/d8/manifests/1", image)
	r, wait := runsUntil(t, c)
	req := Request{Fingerprint: "one", Upstream: u, Images: []string{":1", ":2"}}
	r.Want(req)
	wait("one is missing", func(p switchover.CheckReport) bool { return p.Done == 1 && p.FailureCount == 1 })
	s.put("/v2/sys/d8/manifests/2", image)
	wait("it is there now", func(p switchover.CheckReport) bool { return !p.At.IsZero() && p.Done == 2 && p.FailureCount == 0 })
	before := s.asked.Load()
	r.Want(req)
	if r.Report().At.IsZero() || s.asked.Load() != before {
		t.Error("the same request was checked again")
	}
	req.Fingerprint, req.Images = "two", []string{":1", ":3"}
	r.Want(req)
	if got := r.Report(); got.Fingerprint != "two" || !got.At.IsZero() {
		t.Errorf("the report of another request was kept: %+v", got)
	}
	wait("another request", func(p switchover.CheckReport) bool { return p.FailureCount == 1 })
	// A new request does not wait for the back-off of the old one.
	req.Fingerprint, req.Images = "three", []string{":1"}
	r.Want(req)
	wait("a third", func(p switchover.CheckReport) bool { return p.Fingerprint == "three" && !p.At.IsZero() })
	r.Want(Request{})
	if got := r.Report(); got.Fingerprint != "" {
		t.Errorf("got %+v after the request was withdrawn", got)
	}
}

// TestRunnerAsksForWhatIsNew: a census changes while its images are checked. What was
// found a moment ago is not asked for again; it is in time, by another architecture,
// or once the registry has failed.
func TestRunnerAsksForWhatIsNew(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	for _, tag := range []string{"1", "2", "3"} {
		s.put("/v2/sys/d8/manifests/"+tag, image)
	}
	r, wait := runsUntil(t, c)
	var later atomic.Int64
	r.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	asks := func(what, fingerprint string, most int64, edit func(*Request)) {
		t.Helper()
		req := Request{Fingerprint: fingerprint, Upstream: u, Images: []string{":1", ":2", ":3"}}
		edit(&req)
		before := s.asked.Load()
		r.Want(req)
		wait(what, func(p switchover.CheckReport) bool {
			return p.Fingerprint == fingerprint && !p.At.IsZero() && p.Done == p.Total
		})
		if asked := s.asked.Load() - before; asked > most || asked < 1 {
			t.Errorf("%s: %d requests, want no more than %d", what, asked, most)
		}
	}
	all := int64(4) // access, and each image
	asks("two images", "one", all-1, func(q *Request) { q.Images = q.Images[:2] })
	asks("one more", "two", 2, func(*Request) {})
	asks("one less", "three", 1, func(q *Request) { q.Images = q.Images[1:] })
	later.Store(int64(believedFor))
	before := s.asked.Load()
	asks("the same, later", "three", all, func(q *Request) { q.Images = q.Images[1:] })
	if asked := s.asked.Load() - before; asked < 2 {
		t.Errorf("what was found ten minutes ago is believed: %d requests", asked)
	}
	r.Want(Request{})
	before = s.asked.Load()
	asks("after a pause", "four", all, func(*Request) {})
	if asked := s.asked.Load() - before; asked < 3 {
		t.Errorf("what was found for another step is believed: %d requests", asked)
	}
}

// TestRunnerHearsOfARequestOnce: what brings a request to Run may be said again. The
// check of that very request is not begun anew by it.
func TestRunnerHearsOfARequestOnce(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.put("/v2/sys/d8/manifests/1", image)
	r := NewRunner(c, time.Now, func() {}, slog.New(slog.DiscardHandler))
	r.Want(Request{Fingerprint: "one", Upstream: u, Images: []string{":1"}})
	for range 20 {
		r.signal()
		if !r.until(t.Context(), r.wanted, r.found.forgotten) {
			t.Fatal("a check was ended by its own request")
		}
	}
}

// TestRunnerForgetsWhatEndsLate: a request is withdrawn, and another one made, after a
// round has told its end and before it is remembered.
func TestRunnerForgetsWhatEndsLate(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	s.put("/v2/sys/d8/manifests/1", image)
	req := Request{Fingerprint: "one", Upstream: u, Images: []string{":1"}}
	var r *Runner
	r = NewRunner(c, time.Now, func() {
		if !r.Report().At.IsZero() {
			r.Want(Request{})
			r.Want(Request{Fingerprint: "two", Upstream: u, Images: req.Images})
		}
	}, slog.New(slog.DiscardHandler))
	r.Want(req)
	r.until(t.Context(), r.wanted, r.found.forgotten)
	if found := r.believed(); len(found) > 0 {
		t.Errorf("what was found for another step is believed: %v", found)
	}
}
