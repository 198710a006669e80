package judge

import (
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// Allowance is what a registry still lets us ask, as one answer says it: by Retry-After,
// or by RateLimit-* as Docker Hub, GitLab and the drafts for HTTP have it. The zero one
// says nothing.
type Allowance struct {
	Left  int64     // requests
	Of    int64     // as many in a whole window; 0 if it did not say
	Until time.Time // when there are more: within mostWait, whatever the registry says
}

const (
	// unsaidWait is how long an allowance is believed that does not say when it ends.
	unsaidWait = time.Minute
	// fewRequests is when one runs low that does not say of how many.
	fewRequests = 10
	// leastEpoch tells a point in time from a number of seconds: GitLab's RateLimit-Reset
	// is the former, that of the drafts the latter.
	leastEpoch = 1 << 30
)

var (
	// figure is `98` and, of Docker Hub, the window that it is for: `98;w=21600`.
	figure = regexp.MustCompile(`^\s*([0-9]{1,18})\s*(?:;\s*w=([0-9]{1,18}))?\s*(?:[,;]|$)`)
	// quotas are what RateLimit says of each policy: `"burst";r=50;t=30, "day";r=900`.
	quotas = regexp.MustCompile(`;\s*r=([0-9]{1,18})\s*(?:;\s*t=([0-9]{1,18}))?\s*(?:[,;]|$)`)
)

// AllowanceOf reads an answer. What is no number counts as not there, and an answer
// without any is the zero Allowance.
func AllowanceOf(resp *http.Response, now time.Time) Allowance {
	limited := resp.StatusCode == http.StatusTooManyRequests
	if wait := Wait(resp.Header, now); wait > 0 && (limited || resp.StatusCode == http.StatusServiceUnavailable) {
		return Allowance{Until: now.Add(wait)}
	}
	of, _ := figures(resp.Header.Get("RateLimit-Limit"))
	left, seconds := figures(resp.Header.Get("RateLimit-Remaining"))
	if reset, _ := figures(resp.Header.Get("RateLimit-Reset")); reset >= leastEpoch {
		seconds = max(reset-now.Unix(), 0)
	} else if reset >= 0 {
		seconds = reset
	}
	for _, m := range quotas.FindAllStringSubmatch(resp.Header.Get("RateLimit"), -1) {
		if r := number(m[1]); left < 0 || r < left {
			left, seconds, of = r, number(m[2]), -1
		}
	}
	switch {
	case left < 0 && (!limited || seconds < 0):
		return Allowance{}
	case limited:
		left = 0
	}
	wait := unsaidWait
	if seconds >= 0 {
		wait = time.Duration(min(max(seconds, 1), int64(mostWait/time.Second))) * time.Second
	}
	return Allowance{Left: left, Of: max(of, 0), Until: now.Add(wait)}
}

// figures are the numbers of a header; -1 where there is none.
func figures(said string) (n, window int64) {
	m := figure.FindStringSubmatch(said)
	if m == nil {
		return -1, -1
	}
	return number(m[1]), number(m[2])
}

// Low reports whether what need not be asked should wait: the rest is for pulls.
func (a Allowance) Low(now time.Time) bool {
	switch {
	case !now.Before(a.Until):
		return false
	case a.Of > 0:
		return a.Left*10 < a.Of
	default:
		return a.Left < fewRequests
	}
}

// String is for messages.
func (a Allowance) String() string {
	if a.Of > 0 {
		return fmt.Sprintf("%d of %d requests until %s", a.Left, a.Of, a.Until.UTC().Format("15:04:05 UTC"))
	}
	return fmt.Sprintf("%d requests until %s", a.Left, a.Until.UTC().Format("15:04:05 UTC"))
}
