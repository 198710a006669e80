package routes

import (
	"fmt"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
)

// When all pulls from an upstream count as failing: so many attempts in a row, over at
// least this long, and the last not longer ago than kubelet's pause between two tries
// of a Pod allows.
const (
	failingAttempts = 5
	failingFor      = time.Minute
	failingUntil    = 10 * time.Minute
)

// Streak is what pulls from one upstream came to since the last that succeeded. It
// decides nothing about pulls: Health does.
type Streak struct {
	mu          sync.Mutex
	count       int
	since, last time.Time
	outcome     judge.Outcome
	reason      string
}

// Note adds an attempt. An image that is not there, or a limit of the rate, says
// nothing about the registry. Nor does a refusal: many refuse what they do not have,
// and every tenant may ask for that. Whether they refuse us at all, Prove finds out.
func (s *Streak) Note(now time.Time, o judge.Outcome, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o {
	case judge.Relayed:
		s.count = 0
	case judge.NotFound, judge.Rejected, judge.RateLimited, judge.Refused, judge.RefusedElsewhere:
	default:
		if s.count == 0 {
			s.since = now
		}
		if s.count == 0 || s.outcome != o {
			s.outcome, s.reason = o, reason // not each reason: some have a time in them
		}
		s.count++
		s.last = now
	}
}

// renewed forgets what may have been an answer to the credentials of before: some token
// servers have odd answers for those that they do not know.
func (s *Streak) renewed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outcome.Reached() {
		s.count = 0
	}
}

// failing is why all pulls fail; empty when they do not, or it is not known.
func (s *Streak) failing(now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count < failingAttempts || s.last.Sub(s.since) < failingFor || now.Sub(s.last) > failingUntil {
		return ""
	}
	return foreign.Line(foreign.Stable(s.reason), foreign.Word)
}

// Failing says that all pulls from an upstream have failed for a while, and why; empty
// when they have not.
func (t *Table) Failing(u upstream.Upstream) string {
	t.mu.Lock()
	known := t.targets[u.ID()]
	t.mu.Unlock()
	if known == nil {
		return ""
	}
	if why := known.Streak.failing(time.Now()); why != "" {
		return fmt.Sprintf("pulls from it fail: %s", why)
	}
	return ""
}
