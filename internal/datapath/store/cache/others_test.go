package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// What one repository says of a blob says nothing about another one that has it, also where both
// are asked for it at once.
func TestAnotherRepositoryRefuses(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"absent": 404, "refused": 403, "failing": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, img := one(t, 1000)
			s := start(t, Config{}, r.Upstream("team"))
			digest, data := content(t, img, 0)
			r.SetFaults(testregistry.Faults{
				Match:  func(q *http.Request) bool { return strings.Contains(q.URL.Path, "/other/blobs/") },
				Status: status, Latency: time.Second,
			})
			together(2, func(i int) {
				if i == 0 {
					if got := s.get(strings.Replace(blobPath(digest), "/tool/", "/other/", 1)); got.status < 400 {
						t.Errorf("%d", got.status)
					}
					return
				}
				wait(t, 300*time.Millisecond)
				s.wantBlob(s.get(blobPath(digest)), data)
			})
			s.wantBlob(s.get(blobPath(digest)), data)
		})
	}
}

// A list is kept as the registry gave it, whatever becomes of the answer to the client that
// asked.
func TestAListIsKept(t *testing.T) {
	t.Parallel()
	r, _ := one(t, 1000)
	s := start(t, Config{}, r.Upstream("team"))
	route, ok := s.table.Lookup("registry.d8-system.svc:5001", repo)
	if !ok {
		t.Fatal("no route")
	}
	gone := false
	front := s.cache.Transport(roundTrip(func(req *http.Request) (*http.Response, error) {
		if gone {
			return nil, errors.New("no connection")
		}
		resp := newResponse(req, fetch.From(req.Context()), nil, http.StatusOK, http.Header{"Link": {"<next>"}})
		return resp, nil
	}))
	ask := func() *http.Response {
		pull := oci.Pull{Host: "registry.d8-system.svc:5001", Repository: repo, Kind: oci.KindTags}
		x := &fetch.Exchange{Pull: pull, Route: route, Record: &fetch.Record{}}
		req, err := http.NewRequestWithContext(fetch.With(t.Context(), x), http.MethodGet, "https://store/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := front.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	resp := ask()
	_ = resp.Body.Close()
	resp.Header.Del("Link") // as it goes to the client
	gone = true
	resp = ask()
	_ = resp.Body.Close()
	if resp.Header.Get("Link") != "<next>" {
		t.Errorf("%v", resp.Header)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// One blob for which there is no room keeps no other one out.
func TestABlobWithoutRoom(t *testing.T) {
	t.Parallel()
	r := testregistry.New(t, testregistry.Options{})
	large, small := image(t, 1, 1<<20), image(t, 1, 1000)
	r.Push(t, "team/tool", "large", large)
	r.Push(t, "team/tool", "small", small)
	s := start(t, Config{Quota: 100_000}, r.Upstream("team"))
	digest, data := content(t, large, 0)
	for n := range 3 {
		s.wantBlob(s.get(blobPath(digest)), data)
		if got := r.Bytes(digest); n > 0 && got > int64((n+2)<<20) {
			t.Errorf("%d bytes in %d pulls", got, n+1)
		}
	}
	digest, data = content(t, small, 0)
	s.wantBlob(s.get(blobPath(digest)), data)
	s.stored(digest)
}

// A registry that says a size that is not true evicts nothing by saying it.
func TestASizeThatIsALie(t *testing.T) {
	t.Parallel()
	r, img := one(t, 4<<20)
	s := start(t, Config{Quota: 24 << 20}, r.Upstream("team"))
	for n := range 2 {
		digest, data := content(t, img, n)
		s.wantBlob(s.get(blobPath(digest)), data)
		s.stored(digest)
	}
	r.SetFaults(testregistry.Faults{Match: blobs, Answer: func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(20<<20))
		_, _ = w.Write(make([]byte, 1<<20)) // the rest never comes
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
	}})
	go s.get(blobPath("sha256:" + someHex))
	for begin := time.Now(); s.cache.Usage().Coming == 0; wait(t, time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("it never came")
		}
	}
	wait(t, 100*time.Millisecond) // none of what came makes others go
	if u := s.cache.Usage(); u.Evicted.Blobs > 0 {
		t.Errorf("%+v", u)
	}
}

// Nobody is blamed for what an earlier process got, of which nothing says who gave it.
func TestWrongBytesOfAnEarlierProcess(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1<<20)
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	wrong := bytes.Repeat([]byte{1}, len(data)/2)
	part, err := s.cache.blobs.Begin(digest, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteAt(wrong, 0); err != nil {
		t.Fatal(err)
	}
	if err := part.Close(); err != nil {
		t.Fatal(err)
	}
	s.restart()
	if got := s.get(blobPath(digest)); got.err == nil {
		t.Errorf("%d: wrong bytes as a whole blob", got.status)
	}
	route, _ := s.table.Lookup("registry.d8-system.svc:5001", repo)
	if route.Targets[0].Corrupt.Has(time.Now(), digest) {
		t.Error("the registry is blamed, and gave the right ones")
	}
	s.wantBlob(s.get(blobPath(digest)), data)
}

// However little is in them, and however long what was asked for is, lists take no more memory
// than they may.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*answer{
		"long":   {},
		"header": {header: http.Header{"Link": {strings.Repeat("l", 4<<10)}}},
	} {
		var l lists
		for n := range 10_000 {
			key := strconv.Itoa(n)
			if name == "long" {
				key += strings.Repeat("k", 4<<10)
			}
			l.put(key, a)
		}
		if n := len(l.known) * 4 << 10; n > mostLists {
			t.Errorf("%s: %d bytes", name, n)
		}
		for key := range l.known {
			l.drop(key)
		}
		if l.bytes != 0 {
			t.Errorf("%s: %d bytes of nothing", name, l.bytes)
		}
	}
}

// who says who gives a blob, and what: the source of one fill after the other.
type who struct {
	target *routes.Target
	body   io.Reader
}

// Who reads a fill that failed only when the next one has begun blames who gave in his own.
func TestALateReaderBlamesNobodyElse(t *testing.T) {
	t.Parallel()
	a, img := one(t, 100_000)
	b := testregistry.New(t, testregistry.Options{})
	s := start(t, Config{}, a.Upstream("team"), b.Upstream("team"))
	digest, data := content(t, img, 0)
	route, _ := s.table.Lookup("registry.d8-system.svc:5001", repo)
	waits, more := io.Pipe()
	gives := make(chan who, 2)
	gives <- who{route.Targets[0], bytes.NewReader(make([]byte, len(data)))}
	gives <- who{route.Targets[1], waits}
	front := s.cache.Transport(roundTrip(func(req *http.Request) (*http.Response, error) {
		x, one := fetch.From(req.Context()), <-gives
		resp := withLength(newResponse(req, x, one.target, http.StatusOK, http.Header{}), int64(len(data)))
		resp.Body = io.NopCloser(one.body)
		return resp, nil
	}))
	pull := func() io.ReadCloser {
		x := &fetch.Exchange{Pull: oci.Pull{Kind: oci.KindBlobs, Repository: repo, Reference: digest}, Route: route, Record: &fetch.Record{}}
		req, err := http.NewRequestWithContext(fetch.With(t.Context(), x), http.MethodGet, "https://store/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := front.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	late := pull()
	for _, comes := s.cache.fills.Size(digest); comes; _, comes = s.cache.fills.Size(digest) {
		wait(t, time.Millisecond)
	}
	next := pull()
	if _, err := io.ReadAll(late); !errors.Is(err, blob.ErrDigest) {
		t.Errorf("%v", err)
	}
	if !route.Targets[0].Corrupt.Has(time.Now(), digest) || route.Targets[1].Corrupt.Has(time.Now(), digest) {
		t.Error("not the one is blamed who gave wrong bytes, or also the other one")
	}
	go func() {
		_, _ = more.Write(data) // what was not read is seen below
		_ = more.Close()
	}()
	if got, err := io.ReadAll(next); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := errors.Join(late.Close(), next.Close()); err != nil {
		t.Error(err)
	}
	s.stored(digest)
	for begin, known := time.Now(), 1; known > 0; wait(t, time.Millisecond) {
		s.cache.mu.Lock()
		known = len(s.cache.given)
		s.cache.mu.Unlock()
		if time.Since(begin) > 5*time.Second {
			t.Fatal("who gave is remembered for good")
		}
	}
}

// A blob of which nobody says the size is asked for once at each pull, after the first one.
func TestNoSize(t *testing.T) {
	t.Parallel()
	r, img := one(t, 100_000)
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	r.SetFaults(testregistry.Faults{Match: blobs, Answer: func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(data)
	}})
	for range 3 {
		s.wantBlob(s.get(blobPath(digest)), data)
	}
	if n := r.Count(func(q testregistry.Request) bool { return q.Digest == digest }); n != 4 {
		t.Errorf("%d requests", n)
	}
	if n := s.metric("registry_store_bypass_total", "size"); n != 3 {
		t.Errorf("%f went past", n)
	}
}

// A store that gave of a blob is not asked for it again where what it said does not go with what others
// say, whoever is wrong; a registry is.
func TestAStoreThatIsContradicted(t *testing.T) {
	t.Parallel()
	for name, who := range map[string][]int{"a registry": {0, 1}, "of a registry": {1, 0}, "no store": {1, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, img := one(t, 100_000)
			s := start(t, Config{}, r.Upstream("team"))
			digest, data := content(t, img, 0)
			route, _ := s.table.Lookup("registry.d8-system.svc:5001", repo)
			certificate, key := fronttest.Certificate(t)
			store, err := routes.NewStore("10.0.0.1:5001", "", upstream.ClientCert{Cert: string(certificate), Key: string(key)}, false)
			if err != nil {
				t.Fatal(err)
			}
			both := []*routes.Target{store, route.Targets[0]}
			var asked atomic.Int64
			front := s.cache.Transport(roundTrip(func(req *http.Request) (*http.Response, error) {
				n := int(asked.Add(1)) - 1
				if n > 1 {
					return nil, errors.New("no more")
				}
				size, half := len(data)+n, len(data)/2
				resp := newResponse(req, fetch.From(req.Context()), both[who[n]], http.StatusOK, http.Header{})
				resp.Body = io.NopCloser(bytes.NewReader(data[:half])) // breaks off
				if n > 0 {
					resp.StatusCode, resp.Body = http.StatusPartialContent, io.NopCloser(bytes.NewReader(data[half:]))
					resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, size-1, size))
					return withLength(resp, int64(size-half)), nil
				}
				return withLength(resp, int64(size)), nil
			}))
			x := &fetch.Exchange{Pull: oci.Pull{Kind: oci.KindBlobs, Repository: repo, Reference: digest}, Route: route, Record: &fetch.Record{}}
			req, err := http.NewRequestWithContext(fetch.With(t.Context(), x), http.MethodGet, "https://store/v2/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := front.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			if _, err := io.ReadAll(resp.Body); !errors.Is(err, fill.ErrSize) {
				t.Errorf("%v", err)
			}
			if now := time.Now(); store.Corrupt.Has(now, digest) != slices.Contains(who, 0) || route.Targets[0].Corrupt.Has(now, digest) {
				t.Error("a store that gave is not passed over, or a registry is")
			}
		})
	}
}

// A tag of which it could not be noted what it means is asked for again.
func TestWhatIsNotNotedIsNotFresh(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	s := start(t, Config{}, r.Upstream("team"))
	route, _ := s.table.Lookup("registry.d8-system.svc:5001", repo)
	for tag, want := range map[string]int{"-no tag": 0, "v1": 1} {
		f := &front{Cache: s.cache}
		i := inquiry{pull: oci.Pull{Kind: oci.KindManifests, Repository: repo, Reference: tag}, route: route}
		f.learn(i, &answer{status: http.StatusOK, header: http.Header{}, served: route.Targets[0], manifest: &manifest{digest: digestOf(t, img)}})
		f.mu.Lock()
		if n := len(f.fresh); n != want {
			t.Errorf("%q: %d tags are fresh", tag, n)
		}
		clear(f.fresh)
		f.mu.Unlock()
	}
}
