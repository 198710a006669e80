package cache

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

const soon = time.Millisecond // nothing stays fresh

// What was pulled once is served when the registry is gone for good, also by a process that
// starts then. Nobody waits long for it.
func TestTheRegistryIsGone(t *testing.T) {
	t.Parallel()
	r, img := one(t, 100_000)
	s := start(t, Config{Fresh: soon}, r.Upstream("team"))
	pull := func() {
		t.Helper()
		for _, ref := range []string{"v1", digestOf(t, img)} {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				m := s.do(method, manifestPath(ref))
				if m.status != http.StatusOK || m.header.Get("Docker-Content-Digest") != digestOf(t, img) || m.took > 3*time.Second {
					t.Errorf("%s %s: %d after %s: %.200q", method, ref, m.status, m.took, m.body)
				}
			}
		}
		for i := range 2 {
			digest, data := content(t, img, i)
			s.wantBlob(s.get(blobPath(digest)), data)
			if h := s.do(http.MethodHead, blobPath(digest)); h.status != http.StatusOK || h.header.Get("Content-Length") != "100000" {
				t.Errorf("HEAD: %d, %v", h.status, h.header)
			}
		}
	}
	list := func() {
		t.Helper()
		if l := s.get("/v2/" + repo + "/tags/list?" + ns); l.status != http.StatusOK || string(l.body) != `{"name":"`+repo+`","tags":["v1"]}` {
			t.Errorf("%d %q", l.status, l.body)
		}
	}
	pull()
	list()
	r.Stop()
	pull()
	list()
	s.restart()
	pull()
	if s.metric("registry_store_stale_total", "no_connection") == 0 {
		t.Error("nobody can tell")
	}
	for path, want := range map[string]int{manifestPath("v2"): 503, blobPath("sha256:" + someHex): 503} {
		if m := s.get(path); m.status != want || m.header.Get("Retry-After") == "" {
			t.Errorf("%s, which nobody pulled: %d %.200q", path, m.status, m.body)
		}
	}
}

const someHex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// The negative control: without old answers a registry that is gone fails pulls.
func TestNeverStale(t *testing.T) {
	t.Parallel()
	r, _ := one(t, 1000)
	s := start(t, Config{Fresh: soon, Promises: Promises{neverStale: true}}, r.Upstream("team"))
	s.get(manifestPath("v1"))
	r.Stop()
	wait(t, 2*soon)
	if m := s.get(manifestPath("v1")); m.status != http.StatusServiceUnavailable {
		t.Errorf("%d", m.status)
	}
}

// Whatever a registry says that does not say what a tag means, the old answer stands.
func TestWhatIsNoAnswer(t *testing.T) {
	t.Parallel()
	for reason, f := range map[string]testregistry.Faults{
		"server_error":  {Status: 503},
		"rate_limited":  {Status: 429, RetryAfter: "30"},
		"refused":       {Status: 401},
		"nonsense":      {Answer: testregistry.WebPage},
		"no_connection": {Answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			r, img := one(t, 1000)
			s := start(t, Config{Fresh: soon}, r.Upstream("team"))
			s.get(manifestPath("v1"))
			wait(t, 2*soon)
			r.SetFaults(f)
			asked := 0
			for i := range 3 {
				if i == 1 {
					asked = len(r.Requests())
				}
				m := s.get(manifestPath("v1"))
				if m.status != http.StatusOK || m.header.Get("Docker-Content-Digest") != digestOf(t, img) {
					t.Errorf("%d %.200q", m.status, m.body)
				}
			}
			if n := s.metric("registry_store_stale_total", reason); n != 3 {
				t.Errorf("%f old answers because of %s", n, reason)
			}
			if n := len(r.Requests()); n != asked {
				t.Errorf("it was asked again at once: %d requests, then %d", asked, n)
			}
		})
	}
}

// A registry that takes its time gets two seconds of a client that has an answer.
func TestASlowRegistry(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	s := start(t, Config{Fresh: soon, Patience: 100 * time.Millisecond}, r.Upstream("team"))
	s.get(manifestPath("v1"))
	next := image(t, 1, 1000)
	r.Push(t, "team/tool", "v1", next)
	r.SetFaults(testregistry.Faults{Latency: time.Second})
	wait(t, 2*soon)
	if m := s.get(manifestPath("v1")); m.header.Get("Docker-Content-Digest") != digestOf(t, img) || m.took > 800*time.Millisecond {
		t.Errorf("after %s: %v", m.took, m.header)
	}
	// It is asked all the same, behind.
	for begin := time.Now(); ; {
		m := s.get(manifestPath("v1"))
		if m.header.Get("Docker-Content-Digest") == digestOf(t, next) {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the new answer never came")
		}
		wait(t, 100*time.Millisecond)
	}
}

// TestWithoutPatience is the negative control: a client waits as long as the registry takes, and has a new answer.
func TestWithoutPatience(t *testing.T) {
	t.Parallel()
	r, _ := one(t, 1000)
	s := start(t, Config{Fresh: soon, Patience: time.Hour}, r.Upstream("team"))
	s.get(manifestPath("v1"))
	next := image(t, 1, 1000)
	r.Push(t, "team/tool", "v1", next)
	const slow = time.Second
	r.SetFaults(testregistry.Faults{Latency: slow})
	wait(t, 2*soon)
	if m := s.get(manifestPath("v1")); m.header.Get("Docker-Content-Digest") != digestOf(t, next) || m.took < slow {
		t.Errorf("after %s: %v", m.took, m.header)
	}
}

// A tag that is gone is gone, and a new meaning is seen when the old one is not fresh.
func TestTagsChange(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	s := start(t, Config{Fresh: 300 * time.Millisecond}, r.Upstream("team"))
	want := func(digest string) {
		t.Helper()
		if m := s.get(manifestPath("v1")); m.header.Get("Docker-Content-Digest") != digest {
			t.Errorf("%d %v, want %q", m.status, m.header, digest)
		}
	}
	want(digestOf(t, img))
	next := image(t, 1, 1000)
	r.Push(t, "team/tool", "v1", next)
	want(digestOf(t, img)) // it is fresh
	wait(t, 300*time.Millisecond)
	want(digestOf(t, next))
	wait(t, 300*time.Millisecond)
	r.SetFaults(testregistry.Faults{Status: http.StatusNotFound})
	want("")
	before := len(r.Requests())
	want("") // it is not asked for again at once
	r.Stop()
	s.restart()
	if m := s.get(manifestPath("v1")); m.status != http.StatusServiceUnavailable || len(r.Requests()) != before {
		t.Errorf("%d: a tag that was gone is back", m.status)
	}
}

// A registry that lets us ask little more is asked less.
func TestFewRequestsLeft(t *testing.T) {
	t.Parallel()
	r, _ := one(t, 1000)
	r.SetFaults(testregistry.Faults{Header: http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"5;w=21600"}}})
	s := start(t, Config{Fresh: 100 * time.Millisecond}, r.Upstream("team"))
	s.get(manifestPath("v1"))
	wait(t, 200*time.Millisecond)
	before := len(r.Requests())
	if s.get(manifestPath("v1")); len(r.Requests()) != before {
		t.Error("it was asked again")
	}
}

// A registry that says what a tag means, and does not have it, has not said it.
func TestATagOfNothing(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	s := start(t, Config{Fresh: soon}, r.Upstream("team"))
	s.get(manifestPath("v1"))
	r.Push(t, "team/tool", "v1", image(t, 1, 1000))
	r.SetFaults(testregistry.Faults{Match: func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/manifests/sha256:") }, Status: 404})
	wait(t, 2*soon)
	for range 2 {
		if m := s.get(manifestPath("v1")); m.status != http.StatusOK || m.header.Get("Docker-Content-Digest") != digestOf(t, img) {
			t.Errorf("%d %.200q", m.status, m.body)
		}
	}
}
