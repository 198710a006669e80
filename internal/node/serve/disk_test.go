package serve

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/watchdog"
	"github.com/d8-registry/registry/internal/upstream"
)

// routed asks through the real data path: 404 means no route.
func routed(k *keeper, host, repository string) bool {
	known := &tokens{now: time.Now}
	known.known.Store(&handoff.Tokens{Token: "t"})
	h := &handler{tokens: known, keeper: k, proofs: newProofs(), pulls: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxy.New(k.table, proxy.Config{}).ServeHTTP(w, r)
	})}
	req := httptest.NewRequest(http.MethodGet, "/v2/"+repository+"/manifests/x?ns="+host, nil)
	req.Header.Set("X-Registry-Node-Token", "t")
	w := httptest.NewRecorder()
	h.routes().ServeHTTP(w, req)
	return w.Code != http.StatusNotFound
}

// refusing is a disk that does not take files of that name.
func refusing(name string) durable.FS {
	return &durabletest.FS{FS: durable.Disk{}, Before: func(c durabletest.Change) durabletest.Fault {
		if c.Op == durabletest.Write && filepath.Base(c.Name) == name {
			return durabletest.Fault{Err: syscall.ENOSPC, Effect: durabletest.Torn}
		}
		return durabletest.Fault{}
	}}
}

// TestPullsDoNotWaitForTheDisk: the disk hangs, and in the end it fails.
func TestPullsDoNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeperIn(t, dir)
	if err := k.offer(encode(t, published(1, dead("new"))), true); err != nil {
		t.Fatal(err)
	}
	hangs := make(chan struct{})
	k.state = k.state.On(&durabletest.FS{FS: durable.Disk{}, Before: func(c durabletest.Change) durabletest.Fault {
		if filepath.Base(c.Name) != "layout.yaml.new" {
			return durabletest.Fault{}
		}
		<-hangs
		return durabletest.Fault{Err: syscall.EIO}
	}})
	saved := make(chan error, 1)
	go func() { saved <- k.offer(encode(t, published(2, dead("newer"))), true) }()
	for k.mu.TryLock() { // until it is saving
		k.mu.Unlock()
		<-time.After(time.Millisecond)
	}
	answered := make(chan bool, 1)
	go func() {
		status, _ := k.snapshot()
		answered <- routed(k, "127.0.0.1:1", "new/app") && status.Generation == 1
	}()
	select {
	case good := <-answered:
		if !good {
			t.Error("the layout changed before it was saved")
		}
	case <-time.After(10 * time.Second):
		t.Error("a pull waits for the disk")
	}
	close(hangs)
	if err := <-saved; err == nil {
		t.Error("a disk that fails was taken for one that works")
	}
}

// TestNamesOnTheirWayOutAreSavedFirst: a layout on disk without the list of
// what left it would cut those names off at the next start.
func TestNamesOnTheirWayOutAreSavedFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeperIn(t, dir)
	if err := k.offer(encode(t, withOld(1)), true); err != nil {
		t.Fatal(err)
	}
	for _, refused := range []string{"retired.json.new", "layout.yaml.new"} {
		disk := k.state
		k.state, k.retired.state = disk.On(refusing(refused)), disk.On(refusing(refused))
		if err := k.offer(encode(t, published(2, dead("new"))), true); err == nil {
			t.Fatal("no error")
		}
		for _, k := range []*keeper{k, keeperIn(t, dir)} {
			if status, _ := k.snapshot(); status.Generation != 1 || !k.routed("a.example.com", "team/app") {
				t.Errorf("%s refused: %+v", refused, status)
			}
		}
		k.state, k.retired.state = disk, disk
	}
	// What is on its way out and still in the layout is routed as the layout says.
	k.applied(1)
	k.sweep()
	if err := k.offer(encode(t, published(2, dead("new"))), true); err != nil {
		t.Fatal(err)
	}
	if status, _ := k.snapshot(); status.Generation != 2 || !k.routed("a.example.com", "team/app") {
		t.Errorf("afterwards: %+v", status)
	}
}

// A layout that is published again while the order to forget it stands is served on.
func TestWhatIsPublishedAgainIsNotForgotten(t *testing.T) {
	t.Parallel()
	k := keeperIn(t, t.TempDir())
	now := time.Now()
	k.retired.now = func() time.Time { return now }
	data := encode(t, published(2, dead("new")))
	for _, found := range []bool{true, false, true} {
		if err := k.offer(data, found); err != nil {
			t.Fatal(err)
		}
		k.forget(2) // it is heard only while there is none
	}
	now = now.Add(time.Hour)
	k.sweep()
	if status, _ := k.snapshot(); status.Generation != 2 || k.table.Generation() != 2 {
		t.Errorf("%+v, table %d", status, k.table.Generation())
	}
}

// TestForget: the way back to before the first layout, and forth again.
func TestForget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k := keeperIn(t, dir)
	now := time.Now()
	k.retired.now = func() time.Time { return now }
	offer := func(data []byte, found bool) {
		t.Helper()
		if err := k.offer(data, found); err != nil {
			t.Fatal(err)
		}
	}
	after := func(what string, wait time.Duration, want int64) {
		t.Helper()
		now = now.Add(wait)
		k.sweep()
		_, err := k.state.Layout()
		status, _ := k.snapshot()
		if status.Generation != want || k.table.Generation() != want || errors.Is(err, fs.ErrNotExist) != (want == 0) {
			t.Errorf("%s: %+v, table %d, disk %v; want generation %d", what, status, k.table.Generation(), err, want)
		}
	}
	offer(encode(t, withOld(1)), true)
	offer(encode(t, published(2, dead("new"))), true)
	k.forget(2)
	after("a published layout", time.Hour, 2)
	offer(nil, false)
	if status, _ := k.snapshot(); !status.Absent {
		t.Errorf("%+v", status)
	}
	after("nobody said so", time.Hour, 2)
	k.forget(1)
	after("another generation", time.Hour, 2)
	k.forget(2)
	end := k.retired.use("a.example.com", "team/app")
	after("a pull under way", time.Hour, 2)
	end()
	k.forget(2) // node says so in every pass
	after("not yet quiet", DefaultQuiet-time.Second, 2)
	k.forget(2)
	after("quiet", time.Second, 0)
	if status, _ := keeperIn(t, dir).snapshot(); status.Generation != 0 || status.Problem != "" {
		t.Errorf("after a restart %+v", status)
	}
	if routed(k, "a.example.com", "team/app") != true { // 503: containerd goes on to the next host
		t.Error("404 would be believed")
	}
	offer(encode(t, published(3, dead("new"))), true)
	after("a later layout", time.Hour, 3)
	if !k.routed("127.0.0.1:1", "new/app") || k.routed("a.example.com", "team/app") {
		t.Error("the later layout is not routed as it says")
	}
	if status, _ := k.snapshot(); status.Absent || status.Problem != "" {
		t.Errorf("%+v", status)
	}
}

// TestALayoutThatComesMeanwhileStays: the order was about the one before.
func TestALayoutThatComesMeanwhileStays(t *testing.T) {
	t.Parallel()
	k := keeperIn(t, t.TempDir())
	now := time.Now()
	k.retired.now = func() time.Time { return now }
	for _, step := range []struct {
		layout int64
		found  bool
	}{{1, true}, {0, false}, {2, true}} {
		var data []byte
		if step.found {
			data = encode(t, published(step.layout, upstream.Upstream{Host: "127.0.0.1:1", Path: "new", Scheme: upstream.HTTP}))
		}
		if err := k.offer(data, step.found); err != nil {
			t.Fatal(err)
		}
		k.forget(1)
	}
	now = now.Add(time.Hour)
	k.sweep()
	if status, _ := k.snapshot(); (status != handoff.Status{Generation: 2, Version: status.Version, Revision: status.Revision}) {
		t.Errorf("%+v", status)
	}
}

// The kubelet asks without a token, and hears what hangs.
func TestALoopThatHangsIsToldToTheKubelet(t *testing.T) {
	t.Parallel()
	now := time.Now()
	dog := watchdog.New(func() time.Time { return now })
	h := &handler{tokens: &tokens{}, keeper: keeperIn(t, t.TempDir()), alive: dog.Err}
	h.mirrors = &mirrors{}
	asked := func() (int, string) {
		w := httptest.NewRecorder()
		h.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", http.NoBody))
		return w.Code, w.Body.String()
	}
	if code, said := asked(); code != http.StatusOK {
		t.Errorf("%d %s", code, said)
	}
	dog.Do("a new layout", func() {
		now = now.Add(watchdog.Limit + time.Second)
		if code, said := asked(); code != http.StatusServiceUnavailable || !strings.Contains(said, "a new layout has hung") {
			t.Errorf("%d %s", code, said)
		}
	})
}
