package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/testregistry"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

// TestTheEndIsThatOfTheWhole: an answer may hold less than the rest, and a length that
// nobody knew at first is the whole's. No upstream is to blame for it.
func TestTheEndIsThatOfTheWhole(t *testing.T) {
	t.Parallel()
	for name, total := range map[string]bool{"with the total": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, img := pair(t, testregistry.Options{})
			digest, content := blob(t, img)
			a := host(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(content[:1000])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			pieces := 0
			b := host(t, func(w http.ResponseWriter, r *http.Request) {
				var from int
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err != nil {
					t.Errorf("Range %q: %v", r.Header.Get("Range"), err)
				}
				pieces++
				to, size := min(from+100_000, len(content)), "*"
				if total {
					size = fmt.Sprint(len(content))
				}
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", from, to-1, size))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(content[from:to])
			})
			if !total {
				s := start(t, Config{}, a, b)
				got := s.get(blobPath(digest)) // nobody knows whether there is more
				if got.err == nil || len(got.body) != 1000 {
					t.Errorf("%d bytes, error %v", len(got.body), got.err)
				}
				return
			}
			other := host(t, func(w http.ResponseWriter, _ *http.Request) {
				t.Error("another one is asked: who sends what it says is to blame")
				w.WriteHeader(http.StatusNotFound)
			})
			s := start(t, Config{}, a, b, other)
			wantBlob(t, s.get(blobPath(digest)), content)
			if pieces != 3 {
				t.Errorf("%d pieces", pieces)
			}
		})
	}
}

// TestASlowClientIsNoDeadUpstream: an upstream that gives up a client which takes its
// time is asked first by the others all the same.
func TestASlowClientIsNoDeadUpstream(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{true, false} {
		a, b, img := pair(t, testregistry.Options{})
		s := start(t, Config{Stall: 500 * time.Millisecond, Probe: time.Hour}, a.Upstream("team/a"), b.Upstream("team/b"))
		a.SetFaults(testregistry.Faults{CutAfter: 100_000, Times: 1})
		digest, content := blob(t, img)
		x := &fetch.Exchange{Record: &fetch.Record{}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+blobPath(digest), nil)
		if err != nil {
			t.Fatal(err)
		}
		pull, err := oci.Parse(req)
		if err != nil {
			t.Fatal(err)
		}
		x.Route, _ = s.table.Lookup(fixedHost, pull.Repository)
		x.Pull = pull
		x.Pull.Host = fixedHost
		path := fetch.New(fetch.Config{Budget: 8 * time.Second, Stall: 500 * time.Millisecond, Probe: time.Hour, Metrics: s.metrics, Buffers: &buffers{}})
		resp, err := path.RoundTrip(req.WithContext(fetch.With(req.Context(), x)))
		if err != nil {
			t.Fatal(err)
		}
		some := make([]byte, 1000)
		if _, err := io.ReadFull(resp.Body, some); err != nil {
			t.Fatal(err)
		}
		if slow {
			<-time.After(700 * time.Millisecond)
		}
		rest, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !bytes.Equal(append(some, rest...), content) {
			t.Fatalf("%d bytes, %v", len(rest), err)
		}
		if dead := x.Route.Targets[0].Health.State(time.Now()) != routes.Healthy; dead == slow {
			t.Errorf("slow client: %v; the upstream counts as dead: %v", slow, dead)
		}
	}
}

// TestNamesInErrors: the upstream's name of the repository stands as a name only.
func TestNamesInErrors(t *testing.T) {
	t.Parallel()
	const ours = "system/deckhouse"
	for _, tc := range []struct{ theirs, said, want string }{
		{"", "Not found", "Not found"},
		{"a", "a manifest of a was not available at all", "a manifest of a was not available at all"},
		{"a", `repository name "a" not known: /v2/a/manifests/v1, repository:a:pull, a:v1, x=a`, `repository name "system/deckhouse" not known: /v2/system/deckhouse/manifests/v1, repository:system/deckhouse:pull, system/deckhouse:v1, x=system/deckhouse`},
		{"a", "a", ours}, {"manifest", "manifest unknown", "manifest unknown"}, {"manifest", "error: manifest: unknown", "error: manifest: unknown"},
		{"team/a", "team/a and team/ab, xteam/a, team/a-b, team/a_b, team/a.b; team/a.", ours + " and team/ab, xteam/a, team/a-b, team/a_b, team/a.b; " + ours + "."},
		{"team/a", "team/a/tool host.io/team/a:v1 team/a@sha256", ours + "/tool host.io/" + ours + ":v1 " + ours + "@sha256"},
		{"team/a", "team/ateam/a", "team/ateam/a"},
		{ours, ours, ours},
	} {
		if got := rename(tc.said, tc.theirs, ours); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.theirs, got, tc.want)
		}
	}
}

// TestHeadersOfErrors: what clients need of an answer that is none.
func TestHeadersOfErrors(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	digest, content := blob(t, img)
	got := s.get(blobPath(digest), "Range", "bytes=9999999-")
	if want := fmt.Sprintf("bytes */%d", len(content)); got.status != 416 || got.header.Get("Content-Range") != want {
		t.Errorf("%d, Content-Range %q, want %q", got.status, got.header.Get("Content-Range"), want)
	}
	for _, path := range []string{"/v2/_catalog", "/v2/" + repo + "/blobs/uploads", "/v2/x"} {
		if got := s.get(path + "?" + ns); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", path, got.status, got.header.Get("Allow"))
		}
	}
	if got := start(t, Config{}).get(manifestPath); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("without a layout: %d %v", got.status, got.header)
	}
	// An upstream's Retry-After is a number, never its text, and only where we say one.
	a.SetFaults(testregistry.Faults{Status: 429, RetryAfter: "<script>"})
	if got := s.get(manifestPath); got.status != 429 || got.header.Get("Retry-After") != "5" {
		t.Errorf("%d, Retry-After %q", got.status, got.header.Get("Retry-After"))
	}
	a.SetFaults(testregistry.Faults{Status: 404, RetryAfter: "7"})
	if got := s.get(manifestPath); got.header.Get("Retry-After") != "" {
		t.Errorf("404 with Retry-After %q", got.header.Get("Retry-After"))
	}
	bearer := testregistry.New(t, testregistry.Options{Bearer: true})
	bearer.SetFaults(testregistry.Faults{Status: 429, RetryAfter: "77", Match: func(r *http.Request) bool { return r.URL.Path == "/token" }})
	s.swap(2, bearer.Upstream("team/a"))
	if got := s.get(manifestPath); got.status != 429 || got.header.Get("Retry-After") != "77" || !strings.Contains(string(got.body), "token server") {
		t.Errorf("a token server's limit: %d, Retry-After %q: %s", got.status, got.header.Get("Retry-After"), got.body)
	}
}
