package cache

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// hangingDisk does nothing while it hangs.
type hangingDisk struct {
	disk.FS
	hang sync.RWMutex // held while it hangs
}

func (d *hangingDisk) pass() {
	d.hang.RLock()
	defer d.hang.RUnlock()
}

func (d *hangingDisk) Open(name string) (disk.File, error)   { d.pass(); return d.FS.Open(name) }
func (d *hangingDisk) Create(name string) (disk.File, error) { d.pass(); return d.FS.Create(name) }
func (d *hangingDisk) Mkdir(name string) error               { d.pass(); return d.FS.Mkdir(name) }
func (d *hangingDisk) Remove(name string) error              { d.pass(); return d.FS.Remove(name) }
func (d *hangingDisk) SyncDir(name string) error             { d.pass(); return d.FS.SyncDir(name) }
func (d *hangingDisk) Space() (total, free int64, err error) { d.pass(); return d.FS.Space() }

// A disk that hangs holds up no manifest, neither one that is in memory, or only on disk, nor one
// that nobody had asked for; what was learnt meanwhile is there when the disk is back.
func TestTheDiskHangs(t *testing.T) {
	t.Parallel()
	r, img := one(t, 1000)
	folder, err := disk.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := &hangingDisk{FS: folder}
	s := start(t, Config{FS: d, Fresh: soon, Patience: 300 * time.Millisecond}, r.Upstream("team"))
	pull := func(tag, digest string) {
		t.Helper()
		for _, ref := range []string{tag, digest} {
			got := make(chan reply, 1)
			go func() { got <- s.get(manifestPath(ref)) }()
			select {
			case m := <-got:
				if m.status != http.StatusOK || m.header.Get("Docker-Content-Digest") != digest {
					t.Errorf("%s: %d, %v", ref, m.status, m.err)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s waits for the disk", ref)
			}
		}
	}
	pull("v1", digestOf(t, img))
	s.stored(digestOf(t, img))
	s.restart()
	next := image(t, 1, 1000)
	r.Push(t, "team/tool", "v2", next)
	d.hang.Lock()
	hangs := true
	t.Cleanup(func() {
		if hangs {
			d.hang.Unlock()
		}
	})
	for range 2 {
		pull("v1", digestOf(t, img))
		pull("v2", digestOf(t, next))
	}
	r.Push(t, "team/tool", "v1", next)
	for begin := time.Now(); s.get(manifestPath("v1")).header.Get("Docker-Content-Digest") != digestOf(t, next); wait(t, soon) {
		if time.Since(begin) > 10*time.Second {
			t.Fatal("what it means now is never learnt")
		}
	}
	hangs = false
	d.hang.Unlock()
	s.stored(digestOf(t, next))
	r.Stop()
	s.cfg.Patience = 10 * time.Second // machines of tests are busy
	s.restart()
	pull("v1", digestOf(t, next))
	pull("v2", digestOf(t, next))
}
