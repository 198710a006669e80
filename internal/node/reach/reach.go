// Package reach asks the registries of a layout, from this node, whether they are
// there, and reports what they said. It asks without credentials: those are
// proved by the image check. Start at Checker.
package reach

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
)

// Checker remembers which registries answered, and when they were asked. One that
// answered is asked again after the interval; the target is asked in each pass
// until it answers.
type Checker struct {
	interval, jitter time.Duration
	now              func() time.Time
	ping             func(context.Context, upstream.Upstream) error
	known            map[string]answer // by key
}

type answer struct {
	registry string // without anything secret
	target   bool
	err      error
	at       time.Time
}

// pingTime is how long one registry may take. An old registry that is dead must
// not delay the report for long.
const pingTime = 4 * time.Second

// deadAgain is the pause before a registry that did not answer is asked again, if
// it is not the target.
const deadAgain = time.Minute

// New makes a Checker. Before a new target is asked, it waits for a random part
// of jitter, so that not all nodes ask at once.
func New(interval, jitter time.Duration) *Checker {
	return &Checker{interval: interval, jitter: jitter, now: time.Now, ping: ping, known: map[string]answer{}}
}

// Check asks every registry of the layout, reports the answers, and returns
// whether the target answered. Only that is required: the old registry may be
// dead, which may be why the cluster leaves it.
func (c *Checker) Check(ctx context.Context, r *report.Report, l layout.Layout) bool {
	ok := true
	for _, a := range c.ask(ctx, l) {
		status := registryv1alpha1.UpstreamStatus{Registry: a.registry, Reached: a.err == nil}
		if a.err != nil {
			status.Message = report.Brief(a.err)
			if a.target {
				ok = false
				r.Problemf("target %s: %s", a.registry, status.Message)
			}
		}
		r.Status.Upstreams = append(r.Status.Upstreams, status)
	}
	return ok
}

// ask is the answer of every registry of the layout, sorted by registry.
func (c *Checker) ask(ctx context.Context, l layout.Layout) []answer {
	due := map[string]upstream.Upstream{}
	wanted := map[string]bool{}
	upstreams := append([]upstream.Upstream{l.Target}, l.Upstreams()...)
	for _, u := range upstreams {
		key := keyOf(u)
		wanted[key] = true
		a, ok := c.known[key]
		age := c.now().Sub(a.at)
		if !ok || age >= c.interval || a.err != nil && (key == keyOf(l.Target) || age >= deadAgain) {
			due[key] = u
		}
	}
	maps.DeleteFunc(c.known, func(key string, _ answer) bool { return !wanted[key] })
	_, asked := c.known[keyOf(l.Target)]
	if !asked && len(due) > 0 {
		pause(ctx, c.jitter)
	}
	c.askAll(ctx, due)
	out := make([]answer, 0, len(c.known))
	for key, a := range c.known {
		a.target = key == keyOf(l.Target)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b answer) int { return strings.Compare(a.registry, b.registry) })
	return out
}

func (c *Checker) askAll(ctx context.Context, due map[string]upstream.Upstream) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	for key, u := range due {
		group.Go(func() {
			err := c.ping(ctx, u)
			mu.Lock()
			defer mu.Unlock()
			c.known[key] = answer{registry: u.String(), err: err, at: c.now()}
		})
	}
	group.Wait()
}

func ping(ctx context.Context, u upstream.Upstream) error {
	transport, err := proxy.NewTransport(u)
	if err != nil {
		return fmt.Errorf("reach %s: %w", u, err)
	}
	defer transport.CloseIdleConnections()
	return transport.Ping(ctx)
}

// keyOf tells registries apart. Credentials do not count.
func keyOf(u upstream.Upstream) string { return u.String() + "\n" + u.CA }

// pause waits a random part of at most limit.
func pause(ctx context.Context, limit time.Duration) {
	if limit <= 0 {
		return
	}
	n, err := rand.Int(rand.Reader, big.NewInt(int64(limit)))
	if err != nil {
		return
	}
	select {
	case <-time.After(time.Duration(n.Int64())):
	case <-ctx.Done():
	}
}
