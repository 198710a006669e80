package controller

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: how long the rest after a pass is.
func TestPace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		took   time.Duration
		events int
		hurry  string // when a user asks for something
		want   time.Duration
	}{
		"a small cluster":             {took: 10 * time.Millisecond, events: 3, want: 10 * time.Millisecond},
		"a large one":                 {took: time.Second, events: 3, want: longestRest},
		"many reports":                {took: 10 * time.Millisecond, events: 5000, want: longestRest},
		"an edit in the rest":         {took: time.Second, hurry: "later", want: 100 * time.Millisecond},
		"an edit during the pass":     {took: time.Second, hurry: "during", want: 0},
		"an edit that the pass began": {took: time.Second, hurry: "before", want: longestRest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPace(nil)
				if c.hurry == "before" {
					p.hurry()
				}
				p.begin()
				for range c.events {
					p.event()
				}
				switch c.hurry {
				case "during":
					p.hurry()
				case "later":
					time.AfterFunc(100*time.Millisecond, p.hurry)
				}
				begun := time.Now()
				p.rest(t.Context(), c.took)
				if got := time.Since(begun); got != c.want {
					t.Errorf("the rest is %v, want %v", got, c.want)
				}
			})
		})
	}
}
