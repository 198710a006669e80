package cache

import (
	"bytes"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// smallDisk takes so many bytes more.
type smallDisk struct {
	disk.FS
	left atomic.Int64
}

func newSmallDisk(t *testing.T, left int64) *smallDisk {
	t.Helper()
	folder, err := disk.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := &smallDisk{FS: folder}
	d.left.Store(left)
	return d
}

func (d *smallDisk) Create(name string) (disk.File, error) {
	f, err := d.FS.Create(name)
	return smallFile{f, d}, err
}

type smallFile struct {
	disk.File
	disk *smallDisk
}

func (f smallFile) WriteAt(p []byte, at int64) (int, error) {
	if f.disk.left.Add(-int64(len(p))) < 0 {
		return 0, &fs.PathError{Op: "write", Path: "somewhere", Err: syscall.ENOSPC}
	}
	return f.File.WriteAt(p, at)
}

// The disk is full in the middle: whoever reads goes on at its byte, and nobody fails.
func TestTheDiskIsFull(t *testing.T) {
	t.Parallel()
	r, img := one(t, 4<<20)
	d := newSmallDisk(t, 1<<20)
	s := start(t, Config{FS: d}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	together(8, func(i int) {
		if i%2 == 0 {
			s.wantBlob(s.get(blobPath(digest)), data)
			return
		}
		if p := s.get(blobPath(digest), "Range", bytesOf(1<<20, 3<<20-1)); p.err != nil || !bytes.Equal(p.body, data[1<<20:3<<20]) {
			t.Errorf("%d, %d bytes, %v", p.status, len(p.body), p.err)
		}
	})
	if s.metric("registry_store_bypass_total", "full") == 0 {
		t.Error("nobody can tell")
	}
	m := s.get(manifestPath("v1"))
	if m.status != http.StatusOK {
		t.Errorf("%d %.200q", m.status, m.body)
	}
	d.left.Store(1 << 30)
	s.cache.full.Store(nil) // as after ten seconds
	s.wantBlob(s.get(blobPath(digest)), data)
	before := r.Bytes(digest)
	s.wantBlob(s.get(blobPath(digest)), data)
	if r.Bytes(digest) != before {
		t.Error("it is not stored, and there is room again")
	}
}

// Where several may give of a blob, also its rest past the store is no whole one of wrong bytes.
// The next pulls have it from one of them.
func TestTheDiskIsFullOfWrongBytes(t *testing.T) {
	t.Parallel()
	a, b := testregistry.New(t, testregistry.Options{}), testregistry.New(t, testregistry.Options{})
	img := image(t, 1, 4<<20)
	a.Push(t, "team/tool", "v1", img)
	b.Push(t, "team/tool", "v1", img)
	a.SetFaults(testregistry.Faults{Match: blobs, WrongBytes: true})
	digest, data := content(t, img, 0)
	another := start(t, Config{FS: newSmallDisk(t, 1<<20), Second: func(string) bool { return true }}, a.Upstream("team"))
	d := newSmallDisk(t, 1<<20)
	s := start(t, Config{FS: d}, a.Upstream("team"), b.Upstream("team"))
	for name, s := range map[string]*system{"registry": s, "store": another} {
		if got := s.get(blobPath(digest)); got.err == nil {
			t.Errorf("another %s: wrong bytes as a whole blob", name)
		}
		if s.metric("registry_store_bypass_total", "full") == 0 {
			t.Errorf("another %s: nobody went on past the store", name)
		}
		s.cfg.FS.(*smallDisk).left.Store(1 << 30)
	}
	for got := s.get(blobPath(digest)); got.err != nil; got = s.get(blobPath(digest)) {
		if t.Context().Err() != nil || a.Bytes(digest) > 100<<20 {
			t.Fatal("the one with the right bytes is never asked")
		}
	}
	s.wantBlob(s.get(blobPath(digest)), data)

	s.cache.full.Store(nil) // as after ten seconds
	d.left.Store(1 << 20)
	img = image(t, 1, 4<<20)
	b.Push(t, "team/tool", "v2", img)
	digest, data = content(t, img, 0)
	before := s.metric("registry_store_bypass_total", "full")
	s.wantBlob(s.get(blobPath(digest)), data)
	if s.metric("registry_store_bypass_total", "full") == before {
		t.Error("right bytes did not go on past the store")
	}
	d.left.Store(1 << 30)
}

// A store that was full when the pull began is not in the way.
func TestNoQuota(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1<<20)
	s := start(t, Config{Quota: 1000}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	for range 3 {
		s.wantBlob(s.get(blobPath(digest)), data)
	}
	if n := s.metric("registry_store_bypass_total", "full"); n != 3 {
		t.Errorf("%f went past", n)
	}
}

// The process ends while clients read: they have the rest from the registry.
func TestTheStoreEnds(t *testing.T) {
	t.Parallel()
	r, img := one(t, 4<<20)
	r.SetFaults(testregistry.Faults{Match: blobs, StallAfter: 1 << 20, Times: 1})
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for r.Bytes(digest) < 1<<20 {
			if t.Context().Err() != nil {
				return
			}
		}
		_ = s.cache.fills.Close()
	}()
	s.wantBlob(s.get(blobPath(digest)), data)
	<-ended
}

func blobs(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }

// Wrong bytes are never a whole blob; the next pull has them from the next upstream.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	a, b := testregistry.New(t, testregistry.Options{}), testregistry.New(t, testregistry.Options{})
	img := image(t, 1, 4<<20)
	a.Push(t, "team/tool", "v1", img)
	b.Push(t, "team/tool", "v1", img)
	a.SetFaults(testregistry.Faults{Match: blobs, WrongBytes: true})
	s := start(t, Config{}, a.Upstream("team"), b.Upstream("team"))
	digest, data := content(t, img, 0)
	together(8, func(int) {
		if got := s.get(blobPath(digest)); got.err == nil && !bytes.Equal(got.body, data) {
			t.Errorf("%d: wrong bytes as a whole blob", got.status)
		}
	})
	for range 2 {
		s.wantBlob(s.get(blobPath(digest)), data)
	}
	// Once, and the end of the one that was wrong.
	if n := b.Bytes(digest); n > int64(len(data)+100_000) {
		t.Errorf("%d bytes from the other one", n)
	}
	// By parts, which nothing below verifies.
	img = image(t, 1, 4<<20)
	a.Push(t, "team/tool", "v2", img)
	b.Push(t, "team/tool", "v2", img)
	digest, data = content(t, img, 0)
	for try := 0; ; try++ {
		got := s.get(blobPath(digest), "Range", "bytes=1000-")
		if got.err == nil && bytes.Equal(got.body, data[1000:]) {
			return
		}
		if got.err == nil || try > 3 {
			t.Fatalf("try %d: %v: wrong bytes, or the one with the right ones is never asked", try, got.err)
		}
	}
}

// A registry of which nobody else has a copy gives wrong bytes: no pull completes, and when it
// is well again, it does.
func TestWrongBytesOfTheOnlyOne(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1<<20)
	s := start(t, Config{}, r.Upstream("team"))
	digest, data := content(t, img, 0)
	r.SetFaults(testregistry.Faults{Match: blobs, WrongBytes: true})
	for range 3 {
		if got := s.get(blobPath(digest)); got.err == nil {
			t.Errorf("%d: wrong bytes as a whole blob", got.status)
		}
	}
	r.SetFaults(testregistry.Faults{})
	s.wantBlob(s.get(blobPath(digest)), data)
	if s.metric("registry_store_corrupt_total", "") != 3 {
		t.Error("nobody can tell")
	}
}

// What a registry says instead of a blob reaches everybody who waits for it.
func TestWhatIsNoBlob(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		faults testregistry.Faults
		want   int
		after  string
		text   string
	}{
		"limited": {testregistry.Faults{Match: blobs, Status: 429, RetryAfter: "17", Message: "slowly", Latency: 3e8}, 429, "17", "slowly"},
		"failing": {testregistry.Faults{Match: blobs, Status: 500, Message: "ouch", Latency: 3e8}, 503, "5", "ouch"},
		"refused": {testregistry.Faults{Match: blobs, Status: 403, Message: "not you", Latency: 3e8}, 502, "", "not you"},
		"absent":  {testregistry.Faults{Match: blobs, Status: 404, Message: "no such blob", Latency: 3e8}, 404, "", "no such blob"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, img := one(t, 1000)
			r.SetFaults(tc.faults)
			s := start(t, Config{}, r.Upstream("team"))
			digest, data := content(t, img, 0)
			together(8, func(int) {
				got := s.get(blobPath(digest))
				if got.status != tc.want || got.header.Get("Retry-After") != tc.after || !bytes.Contains(got.body, []byte(tc.text)) {
					t.Errorf("%d, Retry-After %q, %q", got.status, got.header.Get("Retry-After"), got.body)
				}
			})
			if n := r.Count(func(q testregistry.Request) bool { return q.Digest == digest }); n != 1 {
				t.Errorf("%d requests", n)
			}
			if r.SetFaults(testregistry.Faults{}); tc.want >= 500 && tc.after == "" {
				s.wantBlob(s.get(blobPath(digest)), data)
			}
		})
	}
}

// TestWhatIsFoundOnTheWayIsTheEnd: where the data path finds that the bytes of one registry are wrong, nothing
// of another one is put behind them, and it is known who is to blame.
func TestWhatIsFoundOnTheWayIsTheEnd(t *testing.T) {
	t.Parallel()
	a, img := one(t, 1<<20)
	b := testregistry.New(t, testregistry.Options{})
	b.Push(t, "team/tool", "v1", img)
	digest, data := content(t, img, 0)
	a.SetFaults(testregistry.Faults{Match: blobs, WrongBytes: true})
	s := start(t, Config{}, a.Upstream("team"), b.Upstream("team"))
	if got := s.get(blobPath(digest)); got.err == nil {
		t.Errorf("%d, %d bytes", got.status, len(got.body))
	}
	if n := b.Bytes(digest); n > 0 {
		t.Errorf("%d bytes of the other one are behind them", n)
	}
	before := a.Bytes(digest)
	s.wantBlob(s.get(blobPath(digest)), data)
	if a.Bytes(digest) != before || b.Bytes(digest) != int64(len(data)) {
		t.Errorf("the next one came of %d and %d bytes", a.Bytes(digest)-before, b.Bytes(digest))
	}
	s.stored(digest)
}

// TestWhoGoesOnIsKnown: where the data path went on with the body of one registry at another, whose bytes
// are wrong, none of them is blamed for the other's.
func TestWhoGoesOnIsKnown(t *testing.T) {
	t.Parallel()
	a, img := one(t, 1<<20)
	b := testregistry.New(t, testregistry.Options{})
	b.Push(t, "team/tool", "v1", img)
	digest, data := content(t, img, 0)
	a.SetFaults(testregistry.Faults{Match: blobs, CutAfter: 100_000})
	b.SetFaults(testregistry.Faults{Match: blobs, WrongBytes: true})
	s := start(t, Config{}, a.Upstream("team"), b.Upstream("team"))
	if got := s.get(blobPath(digest)); got.err == nil || b.Bytes(digest) == 0 {
		t.Errorf("%d, %d bytes, %d of the other one", got.status, len(got.body), b.Bytes(digest))
	}
	route, _ := s.table.Lookup("registry.d8-system.svc:5001", repo)
	for _, r := range route.Targets {
		if r.Corrupt.Has(time.Now(), digest) {
			t.Errorf("%s is blamed", r.Host())
		}
	}
	a.SetFaults(testregistry.Faults{})
	b.SetFaults(testregistry.Faults{})
	s.wantBlob(s.get(blobPath(digest)), data)
}
