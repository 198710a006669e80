package judge

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAllowanceOf(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		name, header string // as written
		status       int
		want         Allowance // Until is after now
		wait         time.Duration
		low          bool
	}{
		{"nothing is said", "", 200, Allowance{}, 0, false},
		{"Docker Hub", "RateLimit-Limit: 100;w=21600\nRateLimit-Remaining: 98;w=21600", 200, Allowance{Left: 98, Of: 100}, time.Hour, false},
		{"Docker Hub, nearly none left", "RateLimit-Limit: 100;w=21600\nRateLimit-Remaining: 9;w=21600", 200, Allowance{Left: 9, Of: 100}, time.Hour, true},
		{"Docker Hub, none left", "RateLimit-Limit: 100;w=21600\nRateLimit-Remaining: 0;w=21600", 429, Allowance{Of: 100}, time.Hour, true},
		{"GitLab, a point in time", "RateLimit-Limit: 600\nRateLimit-Remaining: 59\nRateLimit-Reset: 1800000042", 200, Allowance{Left: 59, Of: 600}, 42 * time.Second, true},
		{"GitLab, in the past", "RateLimit-Remaining: 3\nRateLimit-Reset: 1700000042", 200, Allowance{Left: 3}, time.Second, true},
		{"older drafts, seconds", "RateLimit-Limit: 10, 10;w=1\nRateLimit-Remaining: 5\nRateLimit-Reset: 7", 200, Allowance{Left: 5, Of: 10}, 7 * time.Second, false},
		{"newer drafts", `RateLimit: "default";r=50;t=30`, 200, Allowance{Left: 50}, 30 * time.Second, false},
		{"the least of several", `RateLimit: "day";r=900, "burst";r=2;t=1, "hour";r=99;t=60`, 200, Allowance{Left: 2}, time.Second, true},
		{"no end is said", "RateLimit-Remaining: 9", 200, Allowance{Left: 9}, unsaidWait, true},
		{"an end without a number", "RateLimit-Reset: 7", 200, Allowance{}, 0, false},
		{"a limit that says when it ends", "RateLimit-Reset: 7", 429, Allowance{}, 7 * time.Second, true},
		{"a limit that says no more", "", 429, Allowance{}, 0, false},
		{"Retry-After", "Retry-After: 30\nRateLimit-Remaining: 5", 429, Allowance{}, 30 * time.Second, true},
		{"Retry-After of maintenance", "Retry-After: 30", 503, Allowance{}, 30 * time.Second, true},
		{"Retry-After of a redirect", "Retry-After: 30", 301, Allowance{}, 0, false},
		{"lies", "RateLimit-Remaining: 0\nRateLimit-Reset: 999999999999999999", 200, Allowance{}, time.Hour, true},
		{"too long for a number", "RateLimit-Remaining: 9999999999999999999", 200, Allowance{}, 0, false},
		{"no numbers", "RateLimit-Limit: many\nRateLimit-Remaining: -1\nRateLimit: \"x\";r=few;t=1", 200, Allowance{}, 0, false},
		{"a number and more", "RateLimit-Remaining: 1e9", 200, Allowance{}, 0, false},
	} {
		if tc.wait > 0 {
			tc.want.Until = now.Add(tc.wait)
		}
		got := AllowanceOf(&http.Response{StatusCode: tc.status, Header: written(tc.header)}, now)
		if got != tc.want || got.Low(now) != tc.low || got.Low(now.Add(tc.wait)) {
			t.Errorf("%s: %s, low %t; want %s, low %t", tc.name, got, got.Low(now), tc.want, tc.low)
		}
	}
}

// written are headers as they are read off a connection.
func written(lines string) http.Header {
	header := http.Header{}
	for line := range strings.Lines(lines) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		header.Add(name, value)
	}
	return header
}
