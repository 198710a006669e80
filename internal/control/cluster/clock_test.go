package cluster

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// The API server's clock is told by each of its answers, and a second is nothing.
func TestClock(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	const years = 12 * 365 * 24 * time.Hour
	for _, off := range []time.Duration{0, 10 * time.Second, years, -years} {
		clock := NewClock(func() time.Time { return time.Now().Add(off) })
		if clock.Skew() != 0 {
			t.Error("an answer was there before the first request")
		}
		client := &http.Client{Transport: clock.Watch(&http.Transport{DisableKeepAlives: true})}
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		want := -off
		if off.Abs() < time.Minute {
			want = 0
		}
		if got := clock.Skew(); (got - want).Abs() > time.Minute/2 {
			t.Errorf("off by %s: %s", off, got)
		}
	}
	if (*Clock)(nil).Skew() != 0 {
		t.Error("no clock is off")
	}
}

// TestOneOfSeveralClocks: of several API servers one is years off. Whichever answered
// last, that one does not count, until none of the others was heard for long.
func TestOneOfSeveralClocks(t *testing.T) {
	t.Parallel()
	const years = 12 * 365 * 24 * time.Hour
	for _, off := range []time.Duration{years, -years} {
		ours := time.Now()
		clock := NewClock(func() time.Time { return ours })
		for range 3 {
			clock.hear(ours)
			clock.hear(ours.Add(off))
			if got := clock.Skew(); got != 0 {
				t.Errorf("one that is off by %s counts: %s", off, got)
			}
			ours = ours.Add(50 * time.Minute)
		}
		for range 4 {
			ours = ours.Add(50 * time.Minute)
			clock.hear(ours.Add(off))
		}
		if got := clock.Skew(); got != off {
			t.Errorf("all are off by %s: %s", off, got)
		}
	}
}
