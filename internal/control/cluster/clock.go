package cluster

import (
	"net/http"
	"sync/atomic"
	"time"
)

// ClockLimit is how far our clock may be from the API server's until somebody is told.
const ClockLimit = time.Hour

// Clock compares our clock with the API server's, by the answers that it gives
// anyway. Certificates are made by the API server's time: with ours years off, a new
// one would be of no use to anybody, and an old one would seem to have expired. A
// nil Clock knows of no other clock.
type Clock struct {
	now  func() time.Time
	skew atomic.Int64
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
			w.clock.skew.Store(int64(at.Sub(w.clock.now())))
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
	skew := time.Duration(c.skew.Load())
	if skew.Abs() < time.Minute {
		return 0
	}
	return skew
}
