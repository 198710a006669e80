package store

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// clients are how many nodes pull at once.
const clients = 32

// held has the registry wait in the middle of the only layer of an image, the first time that it sends it.
// release lets it go on.
func (p *process) held(tag string, size, at int) (layer pushedLayer, release func()) {
	p.t.Helper()
	image := p.registry.PushRandom(p.t, "team/tool", tag, 1, size)
	layers, err := image.Layers()
	if err != nil {
		p.t.Fatal(err)
	}
	digest, failed := layers[0].Digest()
	body, err := layers[0].Compressed()
	if err = errors.Join(err, failed); err != nil {
		p.t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err != nil {
		p.t.Fatal(err)
	}
	layer = pushedLayer{digest.String(), int64(len(data))}
	goOn := make(chan struct{})
	release = sync.OnceFunc(func() { close(goOn) })
	p.t.Cleanup(release)
	p.registry.SetFaults(testregistry.Faults{Match: isOf(layer), Times: 1, Answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:at]) // the store may leave
		_ = http.NewResponseController(w).Flush()
		<-goOn
		_, _ = w.Write(data[at:])
	}})
	return layer, release
}

// pulls has all clients pull. wait is how many failed.
func (p *process) pulls(tag string) (wait func() int64) {
	var all sync.WaitGroup
	var failed atomic.Int64
	for range clients {
		c := p.client(1)
		all.Go(func() {
			if err := c.pull(p.t.Context(), tool, tag); err != nil && failed.Add(1) == 1 {
				p.t.Logf("pull of %s: %v", tag, err)
			}
		})
	}
	return func() int64 { all.Wait(); return failed.Load() }
}

// come waits until all clients have an answer for the layer, and for the configuration.
func (p *process) come() {
	p.t.Helper()
	eventually(p.t, "all clients wait for the layer", func() bool {
		_, metrics := p.ask("/metrics")
		n := 0
		for _, found := range []string{"began", "joined", "hit"} {
			_, value, _ := strings.Cut(metrics, `registry_store_answers_total{found="`+found+`",kind="blobs"} `)
			value, _, _ = strings.Cut(value, "\n")
			of, _ := strconv.Atoi(value) // none is 0
			n += of
		}
		return n >= 2*clients
	})
}

// TestARealDiskIsFull: somebody else takes all that is left of a real disk while 32 clients read a layer that
// comes. They go on past the store.
func TestARealDiskIsFull(t *testing.T) {
	t.Parallel()
	if failed := diskIsFull(t, Promises{}); failed != 0 {
		t.Errorf("%d of %d pulls failed", failed, clients)
	}
}

func diskIsFull(t *testing.T, promises Promises) (failed int64) {
	t.Helper()
	data := t.TempDir()
	small(t, data, 64<<20)
	p := start(t, func(c *Config) { c.Data, c.Promises = data, promises })
	_, release := p.held("v1", 1<<20, 256<<10)
	wait := p.pulls("v1")
	p.come()
	junk := filepath.Join(data, "junk")
	if err := write(junk, 1<<30); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	release()
	failed = wait()
	if err := os.Remove(junk); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing of it stays", func() bool { return p.status().Stored.Coming == 0 && len(leftOver(t, data)) == 0 })
	return failed
}

// write writes a file, as another program does.
func write(name string, size int64) error {
	f, err := os.Create(name)
	for part := make([]byte, 1<<20); err == nil && size > 0; size -= int64(len(part)) {
		_, err = f.Write(part)
	}
	return errors.Join(err, f.Close())
}

// TestTheFloorIsOthers: a store that is given a quota beyond the disk leaves of it what is others'. Without a
// floor they have nothing.
func TestTheFloorIsOthers(t *testing.T) {
	t.Parallel()
	const floor = 12 << 20
	for name, tc := range map[string]struct {
		floor int64
		want  error
	}{"as it ships": {floor, nil}, "no floor": {0, syscall.ENOSPC}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			small(t, data, 32<<20)
			p := start(t, func(c *Config) { c.Data, c.Floor = data, tc.floor })
			for n := range 10 { // more than there is
				tag := "v" + strconv.Itoa(n)
				layer := p.push(tag, 1, 4<<20).layers[0]
				if err := p.client(1).pull(t.Context(), tool, tag); err != nil {
					t.Error(err)
				}
				eventually(t, "it is stored", func() bool { _, err := os.Stat(p.file(layer)); return err == nil })
			}
			others := filepath.Join(data, "others")
			if err := write(others, floor-1<<20); !errors.Is(err, tc.want) {
				t.Errorf("somebody else writes: %v", err)
			}
			if err := os.Remove(others); err != nil {
				t.Error(err)
			}
		})
	}
}

// removeAll is rm -r, as often as it takes: the store may write something meanwhile.
func removeAll(folder string) error {
	err := os.RemoveAll(folder)
	for range 100 {
		if !errors.Is(err, syscall.ENOTEMPTY) {
			break
		}
		err = os.RemoveAll(folder)
	}
	return err
}

// leave ends the process, which has no disk to write to any more.
func (p *process) leave() {
	p.stop()
	if err := <-p.ended; err == nil {
		p.t.Error("what was to be written is not missed")
	}
	p.ended <- nil
}

// loss is a way to lose a disk, and to have one again.
type loss struct {
	make func(t *testing.T, data string)
	lose func(data string) error
	says string
	back func(t *testing.T, data string)
}

func losses() map[string]loss {
	again := func(t *testing.T, data string) {
		t.Helper()
		unmount(data)
		small(t, data, 64<<20)
	}
	mkdir := func(t *testing.T, data string) {
		t.Helper()
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]loss{
		"the folder is removed": {mkdir, removeAll, "the disk is lost", mkdir},
		"the folder is emptied": {mkdir, func(data string) error {
			return errors.Join(os.Remove(filepath.Join(data, "store.json")), removeAll(filepath.Join(data, "blobs")))
		}, "", func(*testing.T, string) {}},
		"the disk is taken away": {
			func(t *testing.T, data string) { t.Helper(); small(t, filepath.Dir(data), 64<<20); mkdir(t, data) },
			func(data string) error { return syscall.Unmount(filepath.Dir(data), syscall.MNT_DETACH) },
			"the disk is lost",
			func(t *testing.T, data string) { t.Helper(); small(t, filepath.Dir(data), 64<<20); mkdir(t, data) },
		},
		"the disk answers no more": {
			func(t *testing.T, data string) { t.Helper(); mkdir(t, data); ext4(t, data) },
			shutDown, "input/output error",
			func(t *testing.T, data string) {
				t.Helper()
				eventually(t, "the store lets go of it", func() bool { return syscall.Unmount(data, 0) == nil })
				ext4(t, data)
			},
		},
		"the disk is read-only": {
			func(t *testing.T, data string) { t.Helper(); mkdir(t, data); ext4(t, data) },
			readOnly, "read-only file system", again,
		},
	}
}

// blobOf is of a layer that is there.
func (c *client) blobOf(ctx context.Context, layer pushedLayer) error {
	data, err := c.get(ctx, tool+"/blobs/"+layer.digest, "")
	if err == nil && sum(data) != layer.hex() {
		err = errors.New("it has other bytes")
	}
	return err
}

// TestTheDiskIsLost under load: a layer comes for 32 clients when the disk goes. None of them fails, and none
// of those that come while it is away. The store says so, and keeps things again once there is a disk.
func TestTheDiskIsLost(t *testing.T) {
	t.Parallel()
	for name, l := range losses() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, layer, failed := l.lost(t, Promises{})
			if failed += p.pulls("v1")(); failed != 0 {
				t.Errorf("%d of %d pulls failed", failed, 2*clients)
			}
			if code, body := p.ask("/readyz"); code != http.StatusOK { // clients of the Service have nobody else
				t.Errorf("%d %s", code, body)
			}
			l.back(t, p.cfg.Data)
			eventually(t, "it is well", func() bool { s := p.status(); return s.Problem == "" && s.Stored != nil })
			eventually(t, "it keeps things again", func() bool {
				failed += p.pulls("v1")()
				_, err := os.Stat(p.file(layer))
				return err == nil
			})
			p.registry.Stop()
			if err := p.client(1).blobOf(t.Context(), layer); err != nil || failed != 0 {
				t.Errorf("%d failed; from the disk: %v", failed, err)
			}
		})
	}
}

// lost has the disk go under the clients; failed is how many of them did.
func (l loss) lost(t *testing.T, promises Promises) (p *process, layer pushedLayer, failed int64) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	l.make(t, data)
	p = start(t, func(c *Config) { c.Data, c.Promises = data, promises })
	layer, release := p.held("v1", 1<<20, 256<<10)
	wait := p.pulls("v1")
	p.come()
	if err := l.lose(data); err != nil {
		t.Fatal(err)
	}
	if l.says != "" { // else it is open again at once
		eventually(t, "it says so", func() bool { return strings.Contains(p.status().Problem, l.says) })
	} else {
		eventually(t, "it is made again", func() bool { _, err := os.Stat(filepath.Join(data, "store.json")); return err == nil })
	}
	release()
	return p, layer, wait()
}

// TestNobodyLooksAtTheDisk is the negative control of what is said of a lost disk, and of its being opened
// again.
func TestNobodyLooksAtTheDisk(t *testing.T) {
	t.Parallel()
	p := start(t, func(c *Config) { c.retry = time.Hour })
	layer := p.push("v1", 1, 1<<20).layers[0]
	if err := errors.Join(os.RemoveAll(p.cfg.Data), os.Mkdir(p.cfg.Data, 0o700)); err != nil {
		t.Fatal(err)
	}
	if failed := p.pulls("v1")(); failed != 0 {
		t.Errorf("%d pulls failed", failed)
	}
	if _, err := os.Stat(p.file(layer)); err == nil || p.status().Problem != "" {
		t.Errorf("something is kept, or said: %v, %q", err, p.status().Problem)
	}
	p.leave()
}

// TestTheFolderIsDeleted: in a container the path leads to what is deleted for ever. The process ends, for the
// next one has the folder that there is.
func TestTheFolderIsDeleted(t *testing.T) {
	t.Parallel()
	outside, inside := filepath.Join(t.TempDir(), "outside"), t.TempDir()
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	mounted(t, inside, syscall.Mount(outside, inside, "", syscall.MS_BIND, ""))
	p := start(t, func(c *Config) { c.Data = inside })
	if err := removeAll(outside); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.ended:
		if !errors.Is(err, disk.ErrDeleted) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it goes on without a disk")
	}
	p.ended <- nil
}
