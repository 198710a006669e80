package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// inFront is a data path that asks a store first: a registry that has the image by the client's
// name, and can be told to misbehave. A second one is dead.
type inFront struct {
	*system
	store, upstream *testregistry.Registry
	digest          string
	content         []byte
}

func behindStores(t *testing.T, cfg Config, user string) *inFront {
	t.Helper()
	up, _, img := pair(t, testregistry.Options{})
	f := &inFront{store: testregistry.New(t, testregistry.Options{TLS: true, Username: "node", Password: "of nodes"}), upstream: up}
	f.store.Push(t, repo, "v1", img)
	f.digest, f.content = blob(t, img)
	f.system = start(t, cfg)
	f.table.AskStores(nameFor(f.store.Host()))
	f.route(t, user, up.Upstream("team/a"))
	return f
}

// nameFor is the name of somebody who asks this store first.
func nameFor(store string) string {
	name := "node"
	for owner.Of(name, []string{store, deadStore})[0] != store {
		name += "1"
	}
	return name
}

const deadStore = "127.0.0.1:1"

func (f *inFront) route(t *testing.T, user string, upstreams ...upstream.Upstream) {
	t.Helper()
	err := f.table.Swap(layout.Layout{
		Schema: layout.Schema, Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
		Stores: layout.Stores{
			Endpoints: []string{deadStore, f.store.Host()}, CA: f.store.CA(),
			Credentials: upstream.Credentials{Username: user, Password: "of nodes"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// asked counts requests without those that were refused first, and without pings.
func asked(r *testregistry.Registry) int {
	return r.Count(func(q testregistry.Request) bool {
		return !q.Token && q.Path != "/v2/" && q.Status != http.StatusUnauthorized
	})
}

// TestAStoreIsAskedFirst: it serves alone, is told which registry is meant and who asks, and nothing
// else; what is a store's own business is not for clients.
func TestAStoreIsAskedFirst(t *testing.T) {
	t.Parallel()
	f := behindStores(t, Config{}, "node")
	wantBlob(t, f.get(blobPath(f.digest)), f.content)
	wantStatus(t, f.get(manifestPath), http.StatusOK)
	wantStatus(t, f.do(http.MethodHead, manifestPath), http.StatusOK)
	wantStatus(t, f.get(strings.Replace(manifestPath, "manifests/v1", "tags/list", 1)), http.StatusOK)
	part := f.get(blobPath(f.digest), "Range", "bytes=1000-1999")
	if part.status != http.StatusPartialContent || !bytes.Equal(part.body, f.content[1000:2000]) {
		t.Errorf("a part: %d, %d bytes", part.status, len(part.body))
	}
	if n, m := asked(f.store), asked(f.upstream); n != 5 || m != 0 {
		t.Errorf("the store was asked %d times, the registry %d times", n, m)
	}
	for _, q := range f.store.Requests() {
		if q.Header.Get(oci.HeaderHop) != "" || q.Path != "/v2/" && q.Query != ns {
			t.Errorf("asked for %s?%s with %v", q.Path, q.Query, q.Header)
		}
	}
}

// TestNothingThatAStoreSaysIsAnAnswer: whatever it does, the client gets what the registry says, and
// says nothing against the registry.
func TestNothingThatAStoreSaysIsAnAnswer(t *testing.T) {
	t.Parallel()
	layers := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	for name, faults := range map[string]testregistry.Faults{
		"not there":       {Status: http.StatusNotFound},
		"refuses":         {Status: http.StatusForbidden},
		"wrong password":  {Status: http.StatusUnauthorized},
		"full":            {Status: http.StatusTooManyRequests, RetryAfter: "3600"},
		"broken":          {Status: http.StatusInternalServerError},
		"no layout yet":   {Status: http.StatusServiceUnavailable, RetryAfter: "5"},
		"gone":            {Status: http.StatusGone},
		"bad request":     {Status: http.StatusBadRequest},
		"no such place":   {Status: http.StatusRequestedRangeNotSatisfiable},
		"a web page":      {Answer: testregistry.WebPage},
		"no header":       {Hang: true},
		"not even TLS":    {HangOnAccept: true},
		"breaks":          {CutAfter: 100_000, Match: layers},
		"breaks at once":  {CutAfter: 1, Match: layers},
		"is silent":       {StallAfter: 100_000, Match: layers},
		"knows no ranges": {CutAfter: 100_000, NoRange: true, Match: layers},
		"loops": {Answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}},
		"elsewhere": {Answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := behindStores(t, Config{Budget: 4 * time.Second, Hop: 300 * time.Millisecond, Stall: 300 * time.Millisecond, Silent: 500 * time.Millisecond}, "node")
			f.store.SetFaults(faults)
			for range 2 * 5 { // as many as count as failing, and some
				wantBlob(t, f.get(blobPath(f.digest)), f.content)
				wantStatus(t, f.do(http.MethodHead, manifestPath), http.StatusOK)
				wantStatus(t, f.get(manifestPath), http.StatusOK)
			}
			part := f.get(blobPath(f.digest), "Range", "bytes=1000-200999")
			whole := faults.NoRange && part.status == http.StatusOK && bytes.Equal(part.body, f.content) // as any server may answer
			if !whole && (part.status != http.StatusPartialContent || !bytes.Equal(part.body, f.content[1000:201000])) {
				t.Errorf("a part: %d, %d bytes, %v", part.status, len(part.body), part.err)
			}
			wantStatus(t, f.get(strings.Replace(manifestPath, "manifests/v1", "manifests/none", 1)), http.StatusNotFound)
			if asked(f.upstream) == 0 {
				t.Error("the registry was not asked")
			}
			if why := f.table.Failing(f.upstream.Upstream("team/a")); why != "" {
				t.Errorf("the registry counts as failing: %s", why)
			}
		})
	}
}

// TestAStoreOfOtherCredentials is passed by: they are the nodes', and clients know nothing of them.
func TestAStoreOfOtherCredentials(t *testing.T) {
	t.Parallel()
	f := behindStores(t, Config{}, "somebody else")
	for range 3 {
		wantBlob(t, f.get(blobPath(f.digest)), f.content)
		wantStatus(t, f.get(manifestPath), http.StatusOK)
	}
	if asked(f.store) != 0 {
		t.Error("it served")
	}
}

// TestWrongBytesOfAStore never complete, and the next pull is right, also where the store gave only
// a part of them, again and again: whose the wrong ones are is not known, but others have them.
func TestWrongBytesOfAStore(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]testregistry.Faults{
		"all":    {WrongBytes: true},
		"a part": {WrongBytes: true, CutAfter: 100_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := behindStores(t, Config{Probe: time.Nanosecond}, "node") // it is well again at once
			f.store.SetFaults(faults)
			if got := f.get(blobPath(f.digest)); got.err == nil {
				t.Errorf("%d bytes as a whole", len(got.body))
			}
			f.store.ResetLog()
			wantBlob(t, f.get(blobPath(f.digest)), f.content)
			if asked(f.store) > 0 {
				t.Error("it was asked again for what it gave")
			}
			f.store.SetFaults(testregistry.Faults{})
			wantStatus(t, f.get(manifestPath), http.StatusOK)
			if asked(f.store) == 0 {
				t.Error("it is passed over for all that it has")
			}
		})
	}
}

// TestASizeThatIsNoneOfABlob: a store that says it gives a pull that breaks off, as a header cannot be
// taken back, and is not asked again for that blob, also where it ends as it said.
func TestASizeThatIsNoneOfABlob(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]struct{ more, gives int }{
		"all of it, and one more": {1, 0}, "a part of it, and one more": {1, -200_000}, "less, and gives it": {-1, -1}, "less, and breaks off": {-1, -200_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := behindStores(t, Config{Probe: time.Nanosecond}, "node") // it is well again at once
			f.store.SetFaults(testregistry.Faults{Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }, Answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", strconv.Itoa(len(f.content)+says.more))
				_, _ = w.Write(f.content[:len(f.content)+says.gives])
				_ = http.NewResponseController(w).Flush()
			}})
			if got := f.get(blobPath(f.digest)); got.err == nil {
				t.Errorf("%d bytes as a whole", len(got.body))
			}
			f.store.ResetLog()
			wantBlob(t, f.get(blobPath(f.digest)), f.content)
			if asked(f.store) > 0 {
				t.Error("it was asked again for the blob whose size it does not know")
			}
		})
	}
}

// TestAStoreThatWaitsIsWell: that a registry is slow for what one pull wants says nothing about a store
// that answers meanwhile.
func TestAStoreThatWaitsIsWell(t *testing.T) {
	t.Parallel()
	f := behindStores(t, Config{Hop: 4 * time.Second, Budget: 9 * time.Second}, "node")
	f.store.SetFaults(testregistry.Faults{Hang: true, Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }})
	wantStatus(t, f.get(manifestPath), http.StatusOK)
	route, _ := f.table.Lookup(fixedHost, repo)
	if s := route.Targets[0]; s.Host() != f.store.Host() || s.Health.State(time.Now()) != routes.Healthy {
		t.Errorf("%s is not well", s.Host())
	}
}

// TestNotThereAsStoresSayIt: a store that has asked each registry of the route spares them the
// question; one that has not does not.
func TestNotThereAsStoresSayIt(t *testing.T) {
	t.Parallel()
	f := behindStores(t, Config{}, "node")
	b := testregistry.New(t, testregistry.Options{})
	placeOf := func(u upstream.Upstream) string {
		other := routes.NewTable(nil)
		defer other.Close()
		if err := other.Swap(layout.Layout{Generation: 1, Routes: []layout.Route{{Name: layout.Fixed(), Upstreams: []upstream.Upstream{u}}}}); err != nil {
			t.Fatal(err)
		}
		r, _ := other.Lookup(fixedHost, repo)
		return r.Targets[0].Place()
	}
	first, second := f.upstream.Upstream("team/a"), b.Upstream("team/b")
	f.route(t, "node", first, second)
	for said, questions := range map[string]int{
		"": 2, placeOf(first): 2, placeOf(second): 2, placeOf(second) + " " + placeOf(first): 0, "more " + placeOf(second) + " " + placeOf(first): 0,
	} {
		f.store.SetFaults(testregistry.Faults{Status: http.StatusNotFound, Header: http.Header{oci.HeaderAsked: {said}}})
		f.upstream.ResetLog()
		b.ResetLog()
		got := f.get(strings.Replace(manifestPath, "manifests/v1", "manifests/none", 1))
		wantStatus(t, got, http.StatusNotFound)
		if n := asked(f.upstream) + asked(b); n != questions {
			t.Errorf("%q: the registries were asked %d times, want %d", said, n, questions)
		}
		if got.header.Get(oci.HeaderAsked) != "" {
			t.Errorf("the client is told %q", got.header.Get(oci.HeaderAsked))
		}
	}
}

// TestAStoreThatEndsABodyIsThere: it passes on what a registry did, and costs no time. One that was
// silent is passed by.
func TestAStoreThatEndsABodyIsThere(t *testing.T) {
	t.Parallel()
	layers := func(r *http.Request) bool {
		return strings.Contains(r.URL.Path, "/blobs/") && r.Header.Get("Authorization") != ""
	}
	for well, faults := range map[bool]testregistry.Faults{
		true:  {CutAfter: 100_000, Times: 1, Match: layers},
		false: {StallAfter: 100_000, Times: 1, Match: layers},
	} {
		f := behindStores(t, Config{Stall: 200 * time.Millisecond, Silent: 400 * time.Millisecond}, "node")
		f.store.SetFaults(faults)
		wantBlob(t, f.get(blobPath(f.digest)), f.content)
		if route, _ := f.table.Lookup(fixedHost, repo); (route.Targets[0].Health.State(time.Now()) == routes.Healthy) != well {
			t.Errorf("a cut after %d bytes: it is well %t", faults.CutAfter, !well)
		}
	}
}

// TestWhatAStoreHoldsBack: one that ends a body before its last byte found another digest. Nobody adds
// that byte, and the next pull asks elsewhere.
func TestWhatAStoreHoldsBack(t *testing.T) {
	t.Parallel()
	for from, span := range map[int64][]string{0: nil, 1000: {"Range", "bytes=1000-"}} {
		f := behindStores(t, Config{}, "node")
		f.store.SetFaults(testregistry.Faults{WrongBytes: true, CutAfter: int64(len(f.content)) - 1 - from, Match: func(r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/blobs/")
		}})
		if got := f.get(blobPath(f.digest), span...); got.err == nil || asked(f.upstream) != 0 {
			t.Errorf("from %d: %d bytes, %v, and the registry was asked %d times", from, len(got.body), got.err, asked(f.upstream))
		}
		f.store.ResetLog()
		wantBlob(t, f.get(blobPath(f.digest)), f.content)
		if n := asked(f.store); n != 0 {
			t.Errorf("from %d: the store was asked %d times more", from, n)
		}
	}
}

// TestADeadStoreCostsAMomentOnce: the next pulls do not wait for it.
func TestADeadStoreCostsAMomentOnce(t *testing.T) {
	t.Parallel()
	const hop = time.Second
	f := behindStores(t, Config{Hop: hop}, "node")
	f.store.SetFaults(testregistry.Faults{HangOnAccept: true})
	first := f.get(manifestPath)
	wantStatus(t, first, http.StatusOK)
	if first.took > 5*hop {
		t.Errorf("the first took %s", first.took)
	}
	for range 10 {
		next := f.get(manifestPath)
		if wantStatus(t, next, http.StatusOK); next.took > hop/2 {
			t.Errorf("another one took %s", next.took)
		}
	}
}
