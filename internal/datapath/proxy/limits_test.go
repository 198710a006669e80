package proxy

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// together are the statuses that clients get who ask at once.
func together(s *system, clients int, path string) map[int]int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	got := map[int]int{}
	for range clients {
		wg.Go(func() {
			a := s.get(path)
			mu.Lock()
			defer mu.Unlock()
			got[a.status]++
		})
	}
	wg.Wait()
	return got
}

// A registry that asked to be left alone is, whoever pulls: its limit, and what it said
// with it, is answered in its place, and another one of the route is asked.
func TestALimitIsSaidOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			a, b, img := pair(t, testregistry.Options{})
			alone := start(t, Config{}, a.Upstream("team/a"))
			both := start(t, Config{}, a.Upstream("team/a"), b.Upstream("team/b"))
			digest, content := blob(t, img)
			for _, s := range []*system{alone, both} {
				wantStatus(t, s.get(manifestPath), http.StatusOK)
				if testutil.CollectAndCount(s.metrics.limited) != 0 {
					t.Error("a limit is shown although none was ever met")
				}
			}
			a.SetFaults(testregistry.Faults{Status: status, RetryAfter: "3600", Match: func(r *http.Request) bool { return r.URL.Path == "/v2/team/a/tool/manifests/v1" }})
			for _, s := range []*system{alone, both} {
				s.get(manifestPath)
				before := len(a.Requests())
				want, spared := http.StatusOK, 0.0 // asked last, it is not even spared
				if s == alone {
					want, spared = status, 50
				}
				if got := together(s, 50, manifestPath); got[want] != 50 {
					t.Errorf("50 clients get %v, want %d", got, want)
				}
				if n := len(a.Requests()) - before; n != 0 {
					t.Errorf("the registry is asked %d times more", n)
				}
				if n := testutil.ToFloat64(s.metrics.spared.WithLabelValues(a.Upstream("").Host)); n != spared {
					t.Errorf("it was spared %v requests, want %v", n, spared)
				}
				if left := time.Until(time.Unix(int64(testutil.ToFloat64(s.metrics.limited.WithLabelValues(a.Upstream("").Host))), 0)); left < 50*time.Minute || left > time.Hour {
					t.Errorf("it is limited for %s", left)
				}
			}
			got := alone.get(manifestPath)
			if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 3000 || after > 3600 {
				t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
			}
			wantBlob(t, alone.get(blobPath(digest)), content) // of which nothing was said
		})
	}
}

// When the wait is over one pull asks, and the others are served by what it finds out.
func TestRecoveryIsNoticedByOnePull(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team/a"))
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	media, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	var asked, during atomic.Int64
	a.SetFaults(testregistry.Faults{Answer: func(w http.ResponseWriter, _ *http.Request) {
		switch asked.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		case 2:
			<-time.After(300 * time.Millisecond)
			during.Store(asked.Load())
		}
		w.Header().Set("Content-Type", string(media))
		_, _ = w.Write(raw)
	}})
	wantStatus(t, s.get(manifestPath), http.StatusTooManyRequests)
	if got := together(s, 50, manifestPath); got[http.StatusOK] != 50 {
		t.Errorf("50 clients get %v", got)
	}
	if n := during.Load(); n != 2 {
		t.Errorf("%d asked before one knew", n-1)
	}
	if at := testutil.ToFloat64(s.metrics.limited.WithLabelValues(a.Upstream("").Host)); at != 0 {
		t.Errorf("it is limited until %v", at)
	}
}

// A pull that waits for another one's answer is served itself if that takes long.
func TestNobodyWaitsForOneThatHangs(t *testing.T) {
	t.Parallel()
	a, _, _ := pair(t, testregistry.Options{})
	s := start(t, Config{Budget: 8 * time.Second}, a.Upstream("team/a"))
	a.SetFaults(testregistry.Faults{Status: http.StatusTooManyRequests, RetryAfter: "1"})
	wantStatus(t, s.get(manifestPath), http.StatusTooManyRequests)
	<-time.After(time.Second)
	a.SetFaults(testregistry.Faults{Hang: true, Times: 1})
	if got := together(s, 5, manifestPath); got[http.StatusOK] != 4 || got[http.StatusServiceUnavailable] != 1 {
		t.Errorf("5 clients get %v, and one was not answered", got)
	}
}

// limitsTheRest gives a body that breaks, then a limit for a while, then what it has.
type limitsTheRest struct {
	honest
	asked *int
}

func (l limitsTheRest) RoundTrip(req *http.Request) (*http.Response, error) {
	switch *l.asked++; *l.asked {
	case 1:
		return said{200, http.Header{"Content-Type": {"application/octet-stream"}}, l.content[:100_000], int64(len(l.content))}.RoundTrip(req)
	case 2, 3:
		return said{429, http.Header{"Retry-After": {"3600"}}, nil, 0}.RoundTrip(req)
	}
	return l.honest.RoundTrip(req)
}

// A client that has a part of a layer gets the rest, limit or not.
func TestABodyGoesOnInSpiteOfALimit(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 20_000)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	asked := 0
	got, cut := ask(t, fuzzed(t, limitsTheRest{honest{content}, &asked}), "/blobs/"+digest, "")
	if got.status != http.StatusOK || cut || !bytes.Equal(got.body, content) || asked != 4 {
		t.Errorf("%d, %d bytes, cut %t, after %d requests", got.status, len(got.body), cut, asked)
	}
}

// TestWhoMayNotBeAskedIsNotLimited: a mirror that may not be asked for tags says nothing of
// one, also while it wants us to wait with digests, and hears of it again when it was asked.
func TestWhoMayNotBeAskedIsNotLimited(t *testing.T) {
	t.Parallel()
	a, _, img := pair(t, testregistry.Options{})
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{})
	s.users(userHost(mirrorOf(a, func(m *upstream.Mirror) { m.NoResolve = true })))
	a.SetFaults(testregistry.Faults{Status: http.StatusTooManyRequests, RetryAfter: "3600"})
	byDigest := "/v2/team/a/tool/manifests/" + digest.String() + userNS
	wantStatus(t, s.get(byDigest), http.StatusTooManyRequests)
	wantStatus(t, s.get("/v2/team/a/tool/manifests/v1"+userNS), http.StatusNotFound)
	if testutil.ToFloat64(s.metrics.limited.WithLabelValues(a.Upstream("").Host)) == 0 {
		t.Error("the limit is forgotten although nobody was asked")
	}
	before := len(a.Requests())
	wantStatus(t, s.get(byDigest), http.StatusTooManyRequests)
	if n := len(a.Requests()) - before; n != 0 {
		t.Errorf("it is asked %d times more", n)
	}
}
