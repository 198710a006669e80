package precheck

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// runs is a Runner that works until the test ends.
func runs(t *testing.T, c Checker) *Runner {
	t.Helper()
	r := NewRunner(c, time.Now, func() {}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestOwnImageIsCompared with the registry that the cluster runs on, by its bytes: what
// a header says is a registry's word.
func TestOwnImageIsCompared(t *testing.T) {
	t.Parallel()
	before, old, _ := open(t)
	s, u, c := open(t)
	c.CompareTimeout = 300 * time.Millisecond
	const at = "/v2/sys/d8/manifests/own"
	x, y := digestOf(string(manifest("x"))), digestOf(string(manifest("y")))
	s.put(at, image)
	for _, tc := range []struct {
		name             string
		answer           func(http.ResponseWriter, *http.Request)
		own              string
		differs, unknown string
	}{
		{"the same", image, ":own", "", ""},
		{"another", serve(judge.OCIManifest, manifest("y")), ":own", "The module's own image :own is " + y + " at " + old.Base() + " and " + x + " here.", ""},
		{"another, said to be the same", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", judge.OCIManifest)
			w.Header().Set("Docker-Content-Digest", x)
			if r.Method == http.MethodGet {
				_, _ = w.Write(manifest("y"))
			}
		}, ":own", y, ""},
		{"not there", status(404), ":own", "", "not compared with the one of " + old.Base() + ": not found"},
		{"broken", status(500), ":own", "", "500"},
		{"silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ":own", "", "not compared with the one of "},
		{"by digest", status(500), "own@" + x, "", ""},
	} {
		before.put(at, tc.answer)
		s.put("/v2/sys/d8/own/manifests/"+x, image)
		got := c.compareOwn(t.Context(), Request{Upstream: u, Own: tc.own, Compare: old})()
		if !strings.Contains(got.differs, tc.differs) || !strings.Contains(got.unknown, tc.unknown) ||
			(got.differs == "") != (tc.differs == "") || (got.unknown == "") != (tc.unknown == "") {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
	before.put(at, image)
	s.put(at, status(500)) // it had the image a moment ago, for the check
	if got := c.compareOwn(t.Context(), Request{Upstream: u, Own: ":own", Compare: old})(); !strings.Contains(got.differs, "500") || got.unknown != "" {
		t.Errorf("the new registry does not say which it has: %+v", got)
	}
	if got := c.compareOwn(t.Context(), Request{Upstream: u, Own: ":own"})(); got != (ownImage{}) {
		t.Errorf("without another registry: %+v", got)
	}
}

// TestRunnerWaitsForOurOwnImage: the check passes when it is the same, and goes on
// asking while it is not.
func TestRunnerWaitsForOurOwnImage(t *testing.T) {
	t.Parallel()
	before, old, _ := open(t)
	s, u, c := open(t)
	before.put("/v2/sys/d8/manifests/own", image)
	s.put("/v2/sys/d8/manifests/own", serve(judge.OCIManifest, manifest("evil")))
	r := runs(t, c)
	r.Want(Request{Fingerprint: "f", Upstream: u, Images: []string{":own"}, Own: ":own", Compare: old})
	until(t, "it is told", func() bool { return r.Report().OwnDiffers != "" })
	s.put("/v2/sys/d8/manifests/own", image)
	until(t, "it passes", func() bool { return !r.Report().At.IsZero() && r.Report().OwnDiffers == "" })
}

// TestTagsAreCompared in the background, when the check has passed and is not wanted any
// more. Digests need no comparison, and an old registry that is dead is left alone.
func TestTagsAreCompared(t *testing.T) {
	t.Parallel()
	before, old, _ := open(t)
	s, u, c := open(t)
	d := digestOf(string(manifest("x")))
	images := []string{":own", "a@" + d}
	s.put("/v2/sys/d8/manifests/own", image)
	s.put("/v2/sys/d8/a/manifests/"+d, image)
	for _, name := range []string{"b", "c", "d", "e", "f", "g", "h"} {
		images = append(images, name+":1")
		s.put("/v2/sys/d8/"+name+"/manifests/1", image)
		before.put("/v2/sys/d8/"+name+"/manifests/1", serve(judge.OCIManifest, manifest("y")))
	}
	before.put("/v2/sys/d8/manifests/own", image)
	before.put("/v2/sys/d8/b/manifests/1", image)       // the same
	before.put("/v2/sys/d8/c/manifests/1", status(404)) // not there
	r := runs(t, c)
	req := Request{Fingerprint: "f", Upstream: u, Images: images, Own: ":own", Compare: old}
	r.Want(req)
	until(t, "the check passes", func() bool { return !r.Report().At.IsZero() })
	r.Want(Request{})
	until(t, "tags are compared", func() bool { return r.Compared().Fingerprint == "f" })
	if got := r.Compared(); got.Differing != 5 || strings.Join(got.First, " ") != "d:1 e:1 f:1 g:1 h:1" {
		t.Errorf("got %+v", got)
	}
	before.refuse(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
	asked := before.asked.Load()
	if got := c.compareTags(t.Context(), req); got.Differing != 0 || before.asked.Load()-asked > mostSilent {
		t.Errorf("a dead registry was asked %d times, and %+v", before.asked.Load()-asked, got)
	}
	if got := c.compareTags(t.Context(), Request{Fingerprint: "g", Upstream: u, Images: images}); got.Differing != 0 || got.First != nil {
		t.Errorf("without another registry: %+v", got)
	}
}
