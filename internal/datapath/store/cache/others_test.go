package cache

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
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
