package precheck

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/judge"
)

// few has many images, and says with each answer that it allows few requests more.
func few(t *testing.T, s *fakeRegistry, status int, header ...string) (images []string) {
	t.Helper()
	for i := range 40 {
		tag := fmt.Sprintf("v%02d", i)
		s.put("/v2/sys/d8/manifests/"+tag, image)
		images = append(images, ":"+tag)
	}
	s.refuse(func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		if status != http.StatusOK {
			w.WriteHeader(status)
		}
		return status != http.StatusOK
	})
	return images
}

// When a registry's limit is nearly used up, what is left is for pulls: the check says
// so, and waits till there is more. It waits once: what is left may be few for ever.
func TestACheckLeavesTheLastRequestsToPulls(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	images := few(t, s, http.StatusOK, "RateLimit-Limit", "100", "RateLimit-Remaining", "5", "RateLimit-Reset", "2")
	r, wait := runsUntil(t, c)
	began := time.Now()
	r.Want(Request{Fingerprint: "one", Upstream: u, Images: images})
	wait("it pauses", func(p switchover.CheckReport) bool { return strings.Contains(p.Problem, "pauses") })
	report := r.Report()
	if !strings.Contains(report.Problem, "0 of 40 items processed; the check pauses: the registry allows 5 of 100 requests until ") {
		t.Errorf("the message is %q", report.Problem)
	}
	if n := s.asked.Load(); n > 2 {
		t.Errorf("it paused after %d requests", n)
	}
	wait("it goes on", func(p switchover.CheckReport) bool { return !p.At.IsZero() && p.Done == p.Total })
	if took := time.Since(began); took < time.Second {
		t.Errorf("it waited %s", took)
	}
}

// What was found before a pause is not asked for again.
func TestAPauseKeepsWhatWasFound(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	images := few(t, s, http.StatusOK)
	var left atomic.Int64
	s.refuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("RateLimit-Limit", "100")
		w.Header().Set("RateLimit-Remaining", strconv.FormatInt(max(100-left.Add(4), 0), 10))
		w.Header().Set("RateLimit-Reset", "1")
		return false
	})
	c.Timeout = 10 * time.Second
	r, wait := runsUntil(t, c)
	r.Want(Request{Fingerprint: "one", Upstream: u, Images: images})
	wait("it pauses", func(p switchover.CheckReport) bool { return strings.Contains(p.Problem, "pauses") })
	found := r.Report().Done
	if found < 15 || found > 30 {
		t.Errorf("it paused at %d of 40", found)
	}
	wait("it goes on", func(p switchover.CheckReport) bool { return !p.At.IsZero() && p.Done == p.Total })
	if n := s.asked.Load(); n > 45 {
		t.Errorf("%d requests for 40 images", n)
	}
}

// A limit that was reached is not asked about again until it is over.
func TestACheckWaitsAsItIsTold(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	images := few(t, s, http.StatusTooManyRequests, "Retry-After", "3600")
	r, wait := runsUntil(t, c)
	r.Want(Request{Fingerprint: "one", Upstream: u, Images: images})
	wait("it pauses", func(p switchover.CheckReport) bool { return strings.Contains(p.Problem, "pauses") })
	before := s.asked.Load()
	<-time.After(2 * firstRetry)
	if n := s.asked.Load() - before; n != 0 || before > 4 {
		t.Errorf("%d requests, then %d more", before, n)
	}
}

// Who waits for one answer does not wait for more: a close look has seconds.
func TestASingleCheckDoesNotPause(t *testing.T) {
	t.Parallel()
	s, u, c := open(t)
	images := few(t, s, http.StatusOK, "RateLimit-Limit", "100", "RateLimit-Remaining", "5", "RateLimit-Reset", "3600")
	if report := c.Check(t.Context(), Request{Fingerprint: "one", Upstream: u, Images: images}); report.At.IsZero() {
		t.Errorf("it is %+v", report)
	}
}

// A pause is not for longer than a switch can wait.
func TestAPauseEnds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := newRound(Request{Images: []string{":1", ":2"}}, nil)
	r.saving.may = true
	r.heard(judge.Allowance{Left: 1, Until: now.Add(time.Hour)})
	if !r.pauses(r.waiting()) || r.pause(now) != mostPause {
		t.Errorf("it pauses for %s", r.pause(now))
	}
	r.heard(judge.Allowance{Left: 1, Until: now.Add(time.Hour)})
	if r.pauses(r.waiting()) {
		t.Error("it pauses for ever")
	}
}
