package routes

import (
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// TestStreak: a registry fails when all pulls have failed for a while, and no longer
// when one succeeds or nobody has asked for long.
func TestStreak(t *testing.T) {
	t.Parallel()
	type attempt struct {
		after   time.Duration
		outcome judge.Outcome
	}
	of := func(n int, every time.Duration, o judge.Outcome) (all []attempt) {
		for range n {
			all = append(all, attempt{every, o})
		}
		return all
	}
	page := judge.ServerError
	for name, tc := range map[string]struct {
		attempts []attempt
		then     time.Duration
		want     bool
	}{
		"nothing":          {nil, 0, false},
		"a burst":          {of(100, 0, page), 0, false},
		"two attempts":     {of(2, 5*time.Minute, page), 0, false},
		"for a while":      {of(6, 15*time.Second, page), 0, true},
		"of several kinds": {append(of(3, 20*time.Second, page), of(3, 20*time.Second, judge.NoConnection)...), 0, true},
		"not found":        {of(10, 15*time.Second, judge.NotFound), 0, false},
		"refused, as what a tenant asks for may be": {of(10, 15*time.Second, judge.Refused), 0, false},
		"rate limited":              {of(10, 15*time.Second, judge.RateLimited), 0, false},
		"not found among failures":  {append(of(6, 15*time.Second, page), attempt{0, judge.NotFound}), 0, true},
		"one succeeded":             {append(of(6, 15*time.Second, page), attempt{0, judge.Relayed}), 0, false},
		"and nobody asks any more":  {of(6, 15*time.Second, page), 11 * time.Minute, false},
		"and kubelet asks by times": {of(6, 15*time.Second, page), 5 * time.Minute, true},
	} {
		var s Streak
		now := time.Now()
		for i, a := range tc.attempts {
			now = now.Add(a.after)
			s.Note(now, a.outcome, "read tcp 10.0.0.1:"+strings.Repeat("4", i%3+1)+"->10.0.0.2:443: reset\x1b[2J")
		}
		got := s.failing(now.Add(tc.then))
		if (got != "") != tc.want || strings.ContainsAny(got, "\x1b") || strings.Contains(got, "->") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
