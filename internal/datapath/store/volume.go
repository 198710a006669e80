package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/cache"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/datapath/store/space"
)

// retry is after what time a disk that could not be opened is tried again.
const retry = 10 * time.Second

// volume is the cache on its disk, which may come late.
type volume struct {
	cfg       Config
	log       *slog.Logger
	metrics   *cache.Metrics
	others    *peer.Peers
	images    *images.Images
	upstreams http.RoundTripper
	transport atomic.Pointer[http.RoundTripper] // nil until it is open

	mu      sync.Mutex
	folder  *disk.Folder
	cache   *cache.Cache // nil until it is open
	problem error        // why it is not
}

// around is for proxy.Config.Cache.
func (v *volume) around(upstreams http.RoundTripper) http.RoundTripper {
	v.upstreams = v.others.Transport(upstreams)
	return v
}

// RoundTrip asks the cache. That it is open was seen before, see ready.
func (v *volume) RoundTrip(req *http.Request) (*http.Response, error) {
	t := v.transport.Load()
	if t == nil {
		return nil, v.ready()
	}
	return (*t).RoundTrip(req)
}

// ready is nil once the disk is open.
func (v *volume) ready() error {
	if v.transport.Load() != nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return cmp.Or(v.problem, errors.New("no disk yet"))
}

// run opens the disk as soon as it can be, and looks after it until the context ends.
func (v *volume) run(ctx context.Context) error {
	for {
		c, guard, err := v.open(ctx)
		switch {
		case err == nil:
			if guard != nil {
				guarded := make(chan struct{})
				go func() { defer close(guarded); v.guard(ctx, guard) }()
				defer func() { <-guarded }()
			}
			c.Run(ctx)
			return nil
		case errors.Is(err, disk.ErrInUse):
			return fmt.Errorf("%s is in use by another registry-store, and only one may have it: %w", v.cfg.Data, err)
		case ctx.Err() != nil:
			return nil
		}
		v.log.Error("the disk cannot be used; pulls are answered 503 until it can", "data", v.cfg.Data, "err", err)
		v.mu.Lock()
		v.problem = fmt.Errorf("no disk: %w", err)
		v.mu.Unlock()
		select {
		case <-time.After(cmp.Or(v.cfg.retry, retry)):
		case <-ctx.Done():
			return nil
		}
	}
}

// open takes the folder. It ends with the context; what it opened does not, so that pulls
// under way go on while the process is told to stop.
func (v *volume) open(ctx context.Context) (*cache.Cache, *space.Guard, error) {
	opening, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := context.AfterFunc(ctx, cancel)
	folder, err := disk.OpenFolder(v.cfg.Data)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	c, guard, err := v.openIn(opening, folder)
	if err != nil {
		cancel()
		return nil, nil, errors.Join(err, folder.Close())
	}
	ended()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.folder, v.cache, v.problem = folder, c, nil
	transport := c.Transport(v.upstreams)
	v.transport.Store(&transport)
	return c, guard, nil
}

func (v *volume) openIn(ctx context.Context, folder *disk.Folder) (*cache.Cache, *space.Guard, error) {
	boot, err := disk.BootID()
	if err != nil {
		return nil, nil, err
	}
	total, _, err := folder.Space()
	if err != nil {
		return nil, nil, fmt.Errorf("ask how large the disk is: %w", err)
	}
	beside := sameDisk(v.cfg.Data, v.cfg.Etcd)
	var guard *space.Guard
	if beside {
		guard = &space.Guard{}
	}
	quota, floor := space.Defaults(total, beside)
	if v.cfg.Quota >= 0 {
		quota = v.cfg.Quota
	}
	if v.cfg.Floor >= 0 {
		floor = v.cfg.Floor
	}
	c, err := cache.Open(ctx, cache.Config{
		FS: folder, Boot: boot, Quota: quota, Floor: floor, Idle: int64(v.cfg.TTL / cache.Minute),
		Second: v.others.Second, Stored: v.stored, Guard: guard, Fresh: v.cfg.TagFresh, Log: v.log, Metrics: v.metrics,
		Promises: v.cfg.Promises,
	})
	if err == nil {
		v.log.Info("the disk is open", "data", v.cfg.Data, "quota", quota, "floor", floor, "besideEtcd", beside, "blobs", c.Usage().Blobs)
	}
	return c, guard, err
}

// stored is told of all that came.
func (v *volume) stored(digest string) {
	v.others.Stored(digest)
	v.images.Stored()
}

// disk is nil before it is open.
func (v *volume) disk() images.Disk {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cache == nil {
		return nil
	}
	return v.cache
}

// has reports whether a blob is on the disk.
func (v *volume) has(digest string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cache != nil && v.cache.Has(digest)
}

// usage is false before the disk is open.
func (v *volume) usage() (space.Usage, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cache == nil {
		return space.Usage{}, false
	}
	return v.cache.Usage(), true
}

// close leaves what came for the next process.
func (v *volume) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cache == nil {
		return nil
	}
	if err := errors.Join(v.cache.Close(), v.folder.Close()); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}
