package cluster

import (
	"net/http"
	"sync"
	"time"
)

// ClockLimit is how far our clock may be from the API server's until somebody is told.
const ClockLimit = time.Hour

// remembered is for how long an answer counts, at least.
const remembered = time.Hour

// Clock compares our clock with the API server's, by the answers that it gives
// anyway. Certificates are made by the API server's time: with ours years off, a new
// one would be of no use to anybody, and an old one would seem to have expired. Of
// several API servers the one nearest to our clock counts, not the one that answered
// last: one that is years ahead makes no certificate. A nil Clock knows of no other
// clock.
type Clock struct {
	now func() time.Time

	mu           sync.Mutex
	begun        time.Time // of latest
	latest, last answer    // the nearest ones of this time and of the one before
}

// answer is the time that an API server told, and when by our clock. What has passed
// since is measured by one that does not jump, so that it stays true if ours is set.
type answer struct{ told, at time.Time }

// skew is how far that API server's clock is ahead of ours now.
func (a answer) skew(now time.Time) time.Duration { return a.told.Add(now.Sub(a.at)).Sub(now) }

// nearer is the answer that is nearer to our clock; one that is zero is none.
func nearer(a, b answer, now time.Time) answer {
	if a.at.IsZero() || !b.at.IsZero() && b.skew(now).Abs() < a.skew(now).Abs() {
		return b
	}
	return a
}

// hear notes an answer.
func (c *Clock) hear(told time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.begun).Abs() > remembered {
		c.begun, c.last, c.latest = now, c.latest, answer{}
	}
	c.latest = nearer(answer{told, now}, c.latest, now)
}

// NewClock makes a Clock beside ours.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now} }

// Watch notes the time of each answer.
func (c *Clock) Watch(next http.RoundTripper) http.RoundTripper { return watched{c, next} }

type watched struct {
	clock *Clock
	next  http.RoundTripper
}

// RoundTrip makes the request.
func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	if err == nil {
		if at, bad := http.ParseTime(resp.Header.Get("Date")); bad == nil {
			w.clock.hear(at)
		}
	}
	return resp, err //nolint:wrapcheck // it is the other's answer
}

// Skew is how far the API server's clock is ahead of ours; negative if it is behind.
// A request takes its time, and the header has whole seconds: what is less than a
// minute is nothing.
func (c *Clock) Skew() time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	nearest := nearer(c.latest, c.last, now)
	skew := nearest.skew(now)
	if nearest.at.IsZero() || skew.Abs() < time.Minute {
		return 0
	}
	return skew
}
