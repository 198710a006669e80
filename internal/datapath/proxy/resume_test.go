package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

func isBlob(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }

// A body that breaks or goes silent goes on from the next upstream, and the
// client has each byte once.
func TestBrokenBodyGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]testregistry.Faults{
		"cut":   {CutAfter: 100_000},
		"stall": {StallAfter: 100_000},
	} {
		for _, noRange := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/norange=%v", name, noRange), func(t *testing.T) {
				t.Parallel()
				a, b, img := pair(t, testregistry.Options{TLS: true, Username: "u", Password: "p"})
				// The first is tried again at once, so that it breaks each time.
				s := start(t, Config{Stall: time.Second, Probe: 1}, a.Upstream("team/a"), b.Upstream("team/b"))
				a.SetFaults(faults)
				b.SetFaults(testregistry.Faults{NoRange: noRange})
				digest, content := blob(t, img)
				wantBlob(t, s.get(blobPath(digest)), content)
				// TLS may lose what was on the way, never deliver it twice.
				if got := b.Bytes(digest); !noRange && (got < int64(len(content))-100_000 || got == int64(len(content))) {
					t.Errorf("the second registry sent %d of %d bytes, want the rest only", got, len(content))
				}
				// The client's own Range goes on as well, from where it was.
				got := s.get(blobPath(digest), "Range", "bytes=1000-250000")
				wantStatus(t, got, http.StatusPartialContent)
				if got.err != nil || !bytes.Equal(got.body, content[1000:250001]) {
					t.Errorf("range: %d bytes, %v", len(got.body), got.err)
				}
				all := b.Requests()
				if last := all[len(all)-1].Header.Get("Range"); !noRange && !strings.HasSuffix(last, "-250000") {
					t.Errorf("asked for %s, more than the client wants", last)
				}
			})
		}
	}
}

func TestRangeIsRelayed(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	digest, content := blob(t, img)
	for _, tc := range []struct {
		header string
		status int
		want   []byte
	}{
		{"bytes=0-9", 206, content[:10]},
		{"bytes=100-", 206, content[100:]},
		{"bytes=-5", 206, content[len(content)-5:]},
		{fmt.Sprintf("bytes=%d-", len(content)), 416, nil},
	} {
		got := s.get(blobPath(digest), "Range", tc.header)
		if got.status != tc.status || tc.want != nil && !bytes.Equal(got.body, tc.want) {
			t.Errorf("%s: %d, %d bytes", tc.header, got.status, len(got.body))
		}
	}
	// What containerd 2 does: an open Range, closed early, many at once.
	if got := s.get(blobPath(digest), "If-None-Match", `"`+digest+`"`); got.status != http.StatusNotModified {
		t.Errorf("conditional: %d", got.status)
	}
}

// A registry that cuts every body after a bit still serves, bit by bit.
func TestOneUpstreamThatCutsAllTheTime(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{CutAfter: 50_000, Match: isBlob})
	digest, content := blob(t, img)
	wantBlob(t, s.get(blobPath(digest)), content)
}

// The only registry restarts while a layer is under way: the client waits and
// has its layer, instead of starting the pull again.
func TestTheOnlyUpstreamRestartsInMidBody(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	var restarted sync.WaitGroup
	requests := 0
	a.SetFaults(testregistry.Faults{CutAfter: 100_000, Match: func(*http.Request) bool {
		if requests++; requests == 2 { // the first has been cut
			restarted.Go(func() {
				a.Stop()
				<-time.After(time.Second)
				a.Start(t)
			})
		}
		return requests <= 2
	}})
	digest, content := blob(t, img)
	wantBlob(t, s.get(blobPath(digest)), content)
	restarted.Wait()
}

func TestBodyThatNobodyCanEnd(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	s := start(t, Config{Budget: 8 * time.Second, Stall: 200 * time.Millisecond}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.SetFaults(testregistry.Faults{CutAfter: 100_000, Times: 1})
	b.SetFaults(testregistry.Faults{Status: 404})
	digest, content := blob(t, img)
	// The first is asked again, as the second has nothing.
	wantBlob(t, s.get(blobPath(digest)), content)
}

func TestTruncatedBodyIsNeverPassedOffAsWhole(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{Budget: time.Second}, a.Upstream("team/a"))
	first := true
	a.SetFaults(testregistry.Faults{CutAfter: 1000, Match: func(*http.Request) bool {
		defer func() { first = false }()
		if !first {
			go a.Stop() // dead for good while the body is under way
		}
		return true
	}})
	digest, content := blob(t, img)
	got := s.get(blobPath(digest))
	if got.status != 200 || got.err == nil || len(got.body) >= len(content) {
		t.Fatalf("%d, %d of %d bytes, error %v; want an error", got.status, len(got.body), len(content), got.err)
	}
	if log := s.logged(); !strings.Contains(log, "ended at byte") {
		t.Errorf("the access log does not say it: %s", log)
	}
}

// A manifest by tag goes on by the digest that its first answer named.
func TestManifestByTagGoesOnByDigest(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	other := b.PushRandom(t, "team/b/tool", "v1", 1, 100) // the tag has moved there
	s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
	want, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	b.Push(t, "team/b/tool", "other", img)
	a.SetFaults(testregistry.Faults{CutAfter: 200, Times: 1})
	got := s.get(manifestPath)
	wantBlob(t, got, want)
	if raw, err := other.RawManifest(); err != nil || bytes.Equal(got.body, raw) {
		t.Errorf("the other image's manifest: %v", err)
	}
}
