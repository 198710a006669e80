package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

func TestSwapUnderAPull(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{Username: "u", Password: "p"})
	s := start(t, Config{}, a.Upstream("team/a"))
	digest, content := blob(t, img)
	a.SetFaults(testregistry.Faults{Latency: 300 * time.Millisecond, Match: isBlob})
	done := make(chan reply)
	go func() { done <- s.get(blobPath(digest)) }()
	for len(a.Requests()) == 0 {
		<-time.After(time.Millisecond)
	}
	s.swap(2, b.Upstream("team/b"))
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	if s.table.Generation() != 2 || len(b.Requests()) == 0 {
		t.Errorf("generation %d, %d requests at the new registry", s.table.Generation(), len(b.Requests()))
	}
	wantBlob(t, <-done, content) // by the old route
}

func TestSwapThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	for name, route := range map[string]layout.Route{
		"no upstream": {Name: layout.Fixed()},
		"bad CA":      {Name: layout.Fixed(), Upstreams: []upstream.Upstream{{Host: "x", Scheme: upstream.HTTPS, CA: "no PEM"}}},
	} {
		if err := s.table.Swap(layout.Layout{Generation: 2, Routes: []layout.Route{route}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if s.table.Generation() != 1 {
		t.Errorf("generation %d", s.table.Generation())
	}
	wantStatus(t, s.get(manifestPath), http.StatusOK)
}

// Before the first layout nobody knows what is routed: 503, where 404 would be
// believed.
func TestWithoutALayout(t *testing.T) {
	t.Parallel()
	s := start(t, Config{DefaultHost: fixedHost})
	got := s.get(manifestPath)
	wantStatus(t, got, http.StatusServiceUnavailable)
	if code := got.errors(t)[0].Code; code != oci.CodeUnavailable {
		t.Errorf("code %s", code)
	}
	wantStatus(t, s.get("/v2/"), http.StatusOK)
	wantStatus(t, s.get("/v2/x/blobs/uploads?"+ns), http.StatusMethodNotAllowed)
	s.swap(1, upstream.Upstream{Host: "127.0.0.1:1", Scheme: upstream.HTTPS})
	wantStatus(t, s.get("/v2/other/tool/manifests/v1?"+ns), http.StatusNotFound)
}

// Two credentials for one host are two upstreams, kept apart.
func TestRotatedCredentials(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{Username: "u", Password: "new", Bearer: true})
	bad, good := a.Upstream("team/a"), a.Upstream("team/a")
	bad.Credentials.Password = "old"
	s := start(t, Config{}, bad, good)
	wantStatus(t, s.get(manifestPath), http.StatusOK)
	s.swap(2, bad)
	wantStatus(t, s.get(manifestPath), http.StatusBadGateway)
	s.swap(3, good)
	wantStatus(t, s.get(manifestPath), http.StatusOK)
}

func TestMetricsAreBoundedAndForgotten(t *testing.T) {
	t.Parallel()
	a, b, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
	a.Stop()
	digest, _ := blob(t, img)
	s.get(manifestPath)
	s.get(blobPath(digest))
	s.get("/v2/other/manifests/v1?" + ns)
	s.swap(2, b.Upstream("team/b"))
	s.logged() // every request is counted
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "tool") || strings.Contains(l.GetValue(), "sha256") || l.GetValue() == a.Host() {
					t.Errorf("%s{%s=%q}", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	if n, err := testutil.GatherAndCount(s.reg, "registry_proxy_requests_total"); err != nil || n != 3 {
		t.Errorf("%d series of requests, want 3: %v", n, err)
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{TLS: true, Username: "user-secret", Password: "password-secret", Bearer: true})
	s := start(t, Config{}, a.Upstream("team/a"))
	s.get(manifestPath+"&x=query-secret", "Authorization", "Bearer header-secret")
	log := s.logged()
	for _, want := range []string{`"status":200`, `"repo":"` + repo + `"`, `"ref":"v1"`, `"upstream":"` + a.Host() + `"`, `"kind":"manifests"`} {
		if !strings.Contains(log, want) {
			t.Errorf("%s is not in %s", want, log)
		}
	}
	if strings.Contains(log, "secret") {
		t.Errorf("a secret in the log: %s", log)
	}
}
