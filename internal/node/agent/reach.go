package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// reach remembers which registries answered from this node, and when they were
// asked. A registry that answered is asked again after the interval, one that
// did not at each pass.
type reach struct {
	interval, jitter time.Duration
	now              func() time.Time
	ping             func(context.Context, upstream.Upstream) error
	known            map[string]answer // by scheme, host, path and CA
}

type answer struct {
	registry string // without anything secret
	target   bool
	err      error
	at       time.Time
}

// pingTime is how long one registry may take: a dead old one must not hold up
// the report for long.
const pingTime = 4 * time.Second

// deadAgain is how soon a registry that did not answer, and that nobody waits
// for, is asked again.
const deadAgain = time.Minute

func newReach(interval, jitter time.Duration) *reach {
	return &reach{interval: interval, jitter: jitter, now: time.Now, ping: ping, known: map[string]answer{}}
}

// ask is the answer of every registry of the layout, sorted by registry.
func (r *reach) ask(ctx context.Context, l layout.Layout) []answer {
	due := map[string]upstream.Upstream{}
	wanted := map[string]bool{}
	upstreams := append([]upstream.Upstream{l.Target}, l.Upstreams()...)
	for _, u := range upstreams {
		key := place(u)
		wanted[key] = true
		a, ok := r.known[key]
		age := r.now().Sub(a.at)
		if !ok || age >= r.interval || a.err != nil && (key == place(l.Target) || age >= deadAgain) {
			due[key] = u
		}
	}
	for key := range r.known {
		if !wanted[key] {
			delete(r.known, key)
		}
	}
	_, asked := r.known[place(l.Target)]
	if !asked && len(due) > 0 {
		pause(ctx, r.jitter)
	}
	r.askAll(ctx, due)
	out := make([]answer, 0, len(r.known))
	for key, a := range r.known {
		a.target = key == place(l.Target)
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b answer) int { return strings.Compare(a.registry, b.registry) })
	return out
}

func (r *reach) askAll(ctx context.Context, due map[string]upstream.Upstream) {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	for key, u := range due {
		group.Go(func() {
			err := r.ping(ctx, u)
			mu.Lock()
			defer mu.Unlock()
			r.known[key] = answer{registry: u.String(), err: err, at: r.now()}
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

// place tells registries apart, not credentials: those the image check proves.
func place(u upstream.Upstream) string { return u.String() + "\n" + u.CA }

// pause waits a random part of at most limit.
func pause(ctx context.Context, limit time.Duration) {
	if limit <= 0 {
		return
	}
	n, err := rand.Int(rand.Reader, big.NewInt(int64(limit)))
	if err != nil {
		return
	}
	timer := time.NewTimer(time.Duration(n.Int64()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
