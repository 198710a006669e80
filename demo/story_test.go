package main

import (
	"os"
	"strings"
	"testing"
)

// TestStories tells the stories named in DEMO_STORIES, separated by spaces, on
// real parts; "BREAK=order", "BREAK=final-early", "BREAK=store-only", "BREAK=no-fall-through" and
// "BREAK=last-byte" are the negative controls.
// They take minutes and both cores, so none runs by default.
func TestStories(t *testing.T) {
	names := strings.Fields(os.Getenv("DEMO_STORIES"))
	if len(names) == 0 {
		t.Skip(`DEMO_STORIES names no story: "main wrong-credentials web-page reverts lost-state gitops stopped-agent old-containerd broken-restart proxy BREAK=order BREAK=final-early BREAK=store-only BREAK=no-fall-through BREAK=last-byte"`)
	}
	t.Chdir("..") // the demo is run from the root
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			want := 0
			if control, ok := strings.CutPrefix(name, "BREAK="); ok {
				t.Setenv("BREAK", control)
				want = exitBroken
			} else {
				t.Setenv("STORY", name)
			}
			if got := run(); got != want {
				t.Errorf("the demo ended with %d, want %d", got, want)
			}
		})
	}
}
