// Package cache is what was pulled once, in front of the upstreams: it answers what it has,
// has what it lacks fetched once however many ask for it, and lets through what is none of
// its business.
//
// A pull never fails because of it: a full disk, a fill that breaks, a store that ends, and
// the rest of the body comes from the upstreams. What an upstream says when it has no blob
// or no manifest reaches each client as it is. Content by digest is the same whoever gave
// it; what a tag means is asked for again after a while, and the old answer stands as long
// as nobody gives another one. Only layouts' upstreams are cached, never users' mirrors.
//
// Start at Open, then front.RoundTrip.
package cache

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

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/fill"
	"github.com/d8-registry/registry/internal/datapath/store/space"
	"github.com/d8-registry/registry/internal/datapath/store/tags"
)

const (
	// DefaultFresh is how long what a tag means is not asked for again.
	DefaultFresh = time.Minute
	// DefaultPatience is how long a client waits for that when there is an old answer.
	DefaultPatience = 2 * time.Second
	// Minute of running: a tick of package space.
	Minute = time.Minute
	// fullFor is how long nothing new is tried to be stored when the disk failed or was full.
	fullFor = 10 * time.Second
	// unfitFor is how long one blob is not tried to be stored for which there was no room, of a
	// size that its registry says, or which has no size: for others there may be.
	unfitFor = time.Minute
	// usesFile is when what was used, see package space.
	usesFile = "uses.log"
)

// Config is what a Cache goes by.
type Config struct {
	FS   disk.FS
	Boot string // disk.BootID
	// Quota, Floor and Idle are those of space.Config.
	Quota, Floor, Idle int64
	// Second is that of space.Config; Guard may be nil.
	Second func(digest string) bool
	Guard  *space.Guard
	// Stored, if set, is told of each blob that is on the disk from now on. It does not wait.
	Stored func(digest string)
	// Fresh and Patience are 0 for their defaults.
	Fresh, Patience time.Duration
	Log             *slog.Logger // nil means none
	Metrics         *Metrics     // nil means none
	Promises
}

// Promises are kept by the zero value, which is what ships. They are there to be seen broken: no old answer
// stands for a new one; all who ask fetch; a body that the store cannot give on ends; nothing is read again.
type Promises struct {
	Fill                                  fill.Promises
	neverStale, alone, noWayPast, noScrub bool
}

// Cache is a folder of what was pulled. All methods may be called at once.
type Cache struct {
	cfg     Config
	ctx     context.Context // of what is asked for all; no client's
	end     context.CancelFunc
	process context.Context // of what is in memory and is to be written: Close waits for it
	blobs   *blob.Store
	fills   *fill.Filler
	room    *space.Keeper
	tags    *tags.Tags

	flights   flights
	manifests manifests
	unwritten atomic.Int64  // bytes of manifests that wait for the disk
	absent    routes.Recent // no upstream has it
	mixed     routes.Recent // several upstreams gave of it, and it was not right
	lists     lists
	unfit     routes.Recent             // there was no room for it
	unsized   routes.Recent             // nobody said how large it is
	full      atomic.Pointer[time.Time] // until when nothing new is stored
	low       atomic.Pointer[time.Time] // see Low

	mu    sync.Mutex
	fresh map[tags.Key]freshness
	given map[string]*givers // of what comes, and of what was left of it
}

// Open takes a folder, or makes it one, see blob.Open. The context is that of the process.
func Open(ctx context.Context, cfg Config) (*Cache, error) {
	cfg.Fresh, cfg.Patience = cmp.Or(cfg.Fresh, DefaultFresh), cmp.Or(cfg.Patience, DefaultPatience)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = newMetrics()
	}
	blobs, err := blob.Open(ctx, cfg.FS, blob.Options{Boot: cfg.Boot, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	known, err := tags.Open(cfg.FS)
	if err != nil {
		return nil, errors.Join(err, blobs.Close())
	}
	uses, err := disk.ReadFile(cfg.FS, usesFile, space.MostUses)
	if err != nil {
		cfg.Log.Info("when what was used is not known, and all counts as used now", "err", err)
	}
	c := &Cache{
		cfg: cfg, blobs: blobs, tags: known,
		fresh: map[tags.Key]freshness{}, given: map[string]*givers{},
	}
	for _, part := range blobs.Partials() {
		c.given[part.Digest] = &givers{unknown: true}
	}
	c.process = ctx
	c.ctx, c.end = context.WithCancel(ctx)
	c.room = space.New(space.Config{
		Quota: cfg.Quota, Floor: cfg.Floor, Idle: cfg.Idle, Free: cfg.FS.Space, Remove: c.remove, Second: cfg.Second,
	}, blobs.Space(), space.ParseUses(uses))
	c.fills = fill.New(ctx, fill.Config{
		Blobs: blobs, Reserve: c.room.Reserve, Over: c.over, Pace: cfg.Guard.Pace, Log: cfg.Log, Metrics: cfg.Metrics, Promises: cfg.Fill,
	})
	cfg.Metrics.watch(c.room, cfg.Guard)
	return c, nil
}

// Close ends what is on its way, and leaves what came of it for the next process.
func (c *Cache) Close() error {
	c.end()
	c.flights.close()
	err := c.fills.Close()
	return errors.Join(err, c.tags.Write(), c.saveUses(), c.blobs.Close())
}

// Run has the minutes counted, and what is kept looked at, until the context ends.
func (c *Cache) Run(ctx context.Context) {
	var scrubs sync.WaitGroup
	defer scrubs.Wait()
	scrubs.Go(func() { c.scrub(ctx) })
	ticker := time.NewTicker(Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := c.Tick(); err != nil {
				c.cfg.Log.Warn("what is in the store could not be looked after", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Tick is a minute of running.
func (c *Cache) Tick() error {
	err := c.room.Tick()
	err = errors.Join(err, c.tags.Keep(c.has), c.saveUses())
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, f := range c.fresh {
		if now.After(f.until) {
			delete(c.fresh, k)
		}
	}
	return err
}

// Pin replaces what is never evicted.
func (c *Cache) Pin(digests []string) { c.room.Pin(digests) }

// Usage is the state of the space.
func (c *Cache) Usage() space.Usage { return c.room.Usage() }

// Has reports whether a blob is on the disk.
func (c *Cache) Has(digest string) bool {
	_, whole := c.blobs.Stat(digest)
	return whole
}

// Manifest is one that is here; nil if it is not, or is no image and no index.
func (c *Cache) Manifest(digest string) []byte {
	if m := (&front{Cache: c}).have(digest); m != nil {
		return m.data
	}
	return nil
}

// heard notes that a registry says that it answers few more requests.
func (c *Cache) heard(resp *http.Response) {
	now := time.Now()
	if said := judge.AllowanceOf(resp, now); said.Low(now) {
		c.low.Store(&said.Until)
	}
}

// Low is until when a registry has few more answers to give: what can wait is to wait.
func (c *Cache) Low() time.Time {
	if until := c.low.Load(); until != nil {
		return *until
	}
	return time.Time{}
}

// gone has the space of what was taken out counted no more, if it has not come again.
func (c *Cache) gone(digest string) {
	if !c.Has(digest) {
		c.room.Gone(digest)
	}
}

// over is that a fill has ended.
func (c *Cache) over(digest string) {
	c.forget(digest)
	if c.cfg.Stored != nil && c.Has(digest) {
		c.cfg.Stored(digest)
	}
}

func (c *Cache) has(digest string) bool {
	return c.Has(digest) || c.manifests.get(digest) != nil
}

func (c *Cache) remove(digest string) error {
	c.manifests.drop(digest)
	err := c.blobs.Remove(digest)
	c.forget(digest)
	return err
}

// saveUses need not survive a power cut: what is lost was used just now.
func (c *Cache) saveUses() error {
	if err := disk.Swap(c.cfg.FS, usesFile, c.room.Uses()); err != nil {
		return fmt.Errorf("write when what was used: %w", err)
	}
	return nil
}

// isFull reports whether there was no room a moment ago.
func (c *Cache) isFull() bool {
	until := c.full.Load()
	return until != nil && time.Now().Before(*until)
}

func (c *Cache) noteFull() {
	until := time.Now().Add(fullFor)
	c.full.Store(&until)
}

// Transport is the cache in front of what asks the upstreams.
func (c *Cache) Transport(next http.RoundTripper) http.RoundTripper { return &front{c, next} }
