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
	now       atomic.Pointer[opened] // nil while there is no disk

	mu      sync.Mutex
	was     bool  // it was open once
	problem error // why it is not open, or what is wrong with it
}

// around is for proxy.Config.Cache.
func (v *volume) around(upstreams http.RoundTripper) http.RoundTripper {
	v.upstreams = v.others.Transport(upstreams)
	return v
}

// RoundTrip asks the cache. That there was a disk was seen before, see ready; if it was lost since, the
// upstreams are asked as if there were no cache: clients of the Service have nobody else.
func (v *volume) RoundTrip(req *http.Request) (*http.Response, error) {
	if resp, err := v.now.Load().ask(req); !errors.Is(err, errLost) {
		return resp, err
	}
	if err := v.trouble(); images.AsideOf(req.Context()) != nil || v.ready() != nil {
		return nil, err
	}
	v.metrics.Past("lost")
	return v.upstreams.RoundTrip(req)
}

// ready is nil once the disk was open.
func (v *volume) ready() error {
	if v.now.Load() != nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.was {
		return nil
	}
	return cmp.Or(v.problem, errors.New("no disk yet"))
}

// trouble is what is wrong with the disk.
func (v *volume) trouble() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now.Load() == nil {
		return cmp.Or(v.problem, errors.New("no disk yet"))
	}
	return v.problem
}

// wrong notes what is; nil is nothing. It is logged once.
func (v *volume) wrong(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil && (v.problem == nil || v.problem.Error() != err.Error()) {
		v.log.Error("the disk is not as it should be", "data", v.cfg.Data, "err", err)
	}
	v.problem = err
}

// run opens the disk as soon as it can be, and looks after it until the context ends. One that is lost is
// left, and opened again when it is back.
func (v *volume) run(ctx context.Context) error {
	for {
		o, err := v.open(ctx)
		if err == nil {
			err = v.serve(ctx, o)
		}
		switch {
		case errors.Is(err, disk.ErrInUse):
			return fmt.Errorf("%s is in use by another registry-store, and only one may have it: %w", v.cfg.Data, err)
		case errors.Is(err, disk.ErrDeleted):
			return fmt.Errorf("%s was deleted, and the next process may have another one: %w", v.cfg.Data, err)
		case ctx.Err() != nil:
			return nil
		}
		if v.ready() == nil {
			v.lost(err)
		} else {
			v.wrong(fmt.Errorf("no disk, and pulls are answered 503 until there is one: %w", err))
		}
		select {
		case <-time.After(cmp.Or(v.cfg.retry, retry)):
		case <-ctx.Done():
			return nil
		}
	}
}

// open takes the folder. It ends with the context; what it opened does not, so that pulls
// under way go on while the process is told to stop.
func (v *volume) open(ctx context.Context) (*opened, error) {
	opening, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := context.AfterFunc(ctx, cancel)
	folder, err := disk.OpenFolder(v.cfg.Data)
	if err != nil {
		cancel()
		return nil, err
	}
	c, guard, err := v.openIn(opening, folder)
	if err != nil {
		cancel()
		return nil, errors.Join(err, folder.IsAt(v.cfg.Data), folder.Close())
	}
	ended()
	o := &opened{folder: folder, cache: c, guard: guard, transport: c.Transport(v.upstreams)}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.was, v.problem = true, nil
	v.now.Store(o)
	return o, nil
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
		guard = &space.Guard{Log: v.log}
		folder.Steady()
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
		Promises: v.cfg.Promises.Cache,
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

// disk is nil while there is none.
func (v *volume) disk() images.Disk {
	if o := v.now.Load(); o != nil {
		return o.cache
	}
	return nil
}

// has reports whether a blob is on the disk.
func (v *volume) has(digest string) bool {
	o := v.now.Load()
	return o != nil && o.cache.Has(digest)
}

// usage is false while there is no disk.
func (v *volume) usage() (space.Usage, bool) {
	o := v.now.Load()
	if o == nil {
		return space.Usage{}, false
	}
	return o.cache.Usage(), true
}

// close leaves what came for the next process.
func (v *volume) close() error {
	if o := v.now.Load(); o != nil {
		return o.close()
	}
	return nil
}
