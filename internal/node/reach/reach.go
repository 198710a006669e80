// Package reach asks the registries of a layout, from this node, whether they are
// there, and reports what they said. The target must serve an image, alone and with
// the layout's credentials; the others only have to answer.
//
// In mode Proxy the target is proved on the way that a pull takes: where it does not serve
// here, a store may stand in for it, see routes.StandIn. The target is asked first all the
// same, and reported as itself: what a store has is no answer of a registry, and who else
// would say that it refuses us. In other modes no store is asked. Start at Checker.
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
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/upstream"
)

// said is the end of a sentence about the target of a layout.
func (s standIn) said(l layout.Layout) string {
	switch {
	case s.err != nil:
		return "; no store stands in for it, " + s.store + ": " + report.Brief(s.err)
	case s.holds(l):
		return "; store " + s.store + " stands in for it"
	}
	return ""
}

// Checker remembers which registries answered, and when they were asked. One that
// answered is asked again after the interval; the target is asked in each pass
// until it answers.
type Checker struct {
	interval, jitter time.Duration
	now              func() time.Time
	ping             func(context.Context, upstream.Upstream) error
	prove, again     func(context.Context, layout.Layout) error // again: one that was proved
	standIn          func(context.Context, layout.Layout) (store string, err error)
	known            map[string]answer // by key
}

type answer struct {
	registry string // without anything secret
	target   bool
	err      error
	standIn  standIn
	at       time.Time
}

// standIn is the store that was asked for a target that does not serve.
type standIn struct {
	store   string
	err     error // nil: it stands in for it
	settled bool  // the target was the one that the cluster has settled on: less is asked then
}

// holds reports whether it still stands in for the target of a layout.
func (s standIn) holds(l layout.Layout) bool {
	return s.store != "" && s.err == nil && slices.Contains(routes.StandIns(l), s.store) && (!s.settled || l.Active == l.Target)
}

// pingTime is how long one registry may take. An old registry that is dead must
// not delay the report for long. proofTime is how long the target may take, which
// also asks its token server.
const (
	pingTime  = 4 * time.Second
	proofTime = 10 * time.Second
)

// deadAgain is the pause before a registry that did not answer is asked again, if
// it is not the target, if it refused us, as some lock accounts, if it has a limit, or if
// a store stands in for it.
const deadAgain = time.Minute

// New makes a Checker of the node of a name. Before a new target is asked, it waits for a
// random part of jitter, so that not all nodes ask at once.
func New(node string, interval, jitter time.Duration) *Checker {
	return &Checker{
		interval: interval, jitter: jitter, now: time.Now, ping: ping, prove: routes.Prove, again: routes.ProveAgain, known: map[string]answer{},
		standIn: func(ctx context.Context, l layout.Layout) (string, error) { return routes.StandIn(ctx, l, node) },
	}
}

// Fails adds to what was reported of the target that pulls from it fail, as the data
// path has seen. It says nothing about what was proved.
func Fails(r *report.Report, l layout.Layout, why string) {
	for i := range r.Status.Upstreams {
		if u := &r.Status.Upstreams[i]; why != "" && u.Registry == l.Target.String() {
			u.Failing, u.Message = true, why
			r.Problemf("target %s: %s", u.Registry, why)
		}
	}
}

// Check asks every registry of the layout, reports the answers, and returns
// whether the target served, or stands, or a store stands in for it. Only that is required:
// the old registry may be dead, which may be why the cluster leaves it.
func (c *Checker) Check(ctx context.Context, r *report.Report, l layout.Layout) bool {
	ok := true
	for _, a := range c.ask(ctx, l) {
		status := registryv1alpha1.UpstreamStatus{Registry: a.registry, Reached: a.err == nil}
		if a.err != nil {
			status.Message = report.Brief(a.err)
			if a.target {
				ok = routes.Stands(l, a.err) || a.standIn.holds(l)
				status.Failing = l.Active == l.Target && judge.Of(a.err).Refusal()
				status.Message += a.standIn.said(l)
				if !a.standIn.holds(l) {
					r.Problemf("target %s: %s", a.registry, status.Message)
				}
			}
		}
		r.Status.Upstreams = append(r.Status.Upstreams, status)
	}
	return ok
}

// ask is the answer of every registry of the layout, sorted by registry.
func (c *Checker) ask(ctx context.Context, l layout.Layout) []answer {
	due := map[string]func(context.Context) answer{}
	names := map[string]string{}
	wanted := func(key string, u upstream.Upstream, target bool, ask func(context.Context) answer) {
		names[key] = u.String()
		a, ok := c.known[key]
		if !ok || c.now().Sub(a.at) >= c.lasts(a, target, l) {
			due[key] = ask
		}
	}
	target := targetKey(l)
	prove := c.prove
	if a, ok := c.known[target]; ok && a.err == nil {
		prove = c.again
	}
	wanted(target, l.Target, true, func(ctx context.Context) answer { return c.askTarget(ctx, l, prove) })
	for _, u := range l.Upstreams() {
		if keyOf(u) != keyOf(l.Target) {
			wanted(keyOf(u), u, false, func(ctx context.Context) answer {
				ctx, cancel := context.WithTimeout(ctx, pingTime)
				defer cancel()
				return answer{err: c.ping(ctx, u)}
			})
		}
	}
	maps.DeleteFunc(c.known, func(key string, _ answer) bool { _, ok := names[key]; return !ok })
	_, asked := c.known[target]
	if !asked && len(due) > 0 {
		pause(ctx, c.jitter)
	}
	c.askAll(ctx, due, names)
	out := make([]answer, 0, len(c.known))
	for key, a := range c.known {
		a.target = key == target
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b answer) int { return strings.Compare(a.registry, b.registry) })
	return out
}

// lasts is how long nobody is asked again.
func (c *Checker) lasts(a answer, target bool, l layout.Layout) time.Duration {
	switch outcome := judge.Of(a.err); {
	case a.err == nil:
		return c.interval
	case target && !outcome.Refusal() && outcome != judge.RateLimited && !a.standIn.holds(l):
		return 0
	}
	return min(deadAgain, c.interval)
}

// askTarget asks stores too if the target does not serve, and may not stand all the same. They
// have a time of their own: a registry that is silent must not take it. A new target that refuses
// this node is its own word: what it once gave a store does not count against that.
func (c *Checker) askTarget(ctx context.Context, l layout.Layout, prove func(context.Context, layout.Layout) error) answer {
	limited, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	a := answer{err: prove(limited, l)}
	settled := l.Active == l.Target
	if !routes.Stands(l, a.err) && len(routes.StandIns(l)) > 0 && (settled || !judge.Of(a.err).Refusal()) {
		a.standIn.settled = settled
		a.standIn.store, a.standIn.err = c.standIn(ctx, l)
	}
	return a
}

func (c *Checker) askAll(ctx context.Context, due map[string]func(context.Context) answer, names map[string]string) {
	var mu sync.Mutex
	var group sync.WaitGroup
	for key, ask := range due {
		group.Go(func() {
			a := ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			a.registry, a.at = names[key], c.now()
			c.known[key] = a
		})
	}
	group.Wait()
}

func ping(ctx context.Context, u upstream.Upstream) error {
	tr, err := transport.New(u)
	if err != nil {
		return fmt.Errorf("reach %s: %w", u, err)
	}
	defer tr.CloseIdleConnections()
	return tr.Ping(ctx)
}

// targetKey tells apart what is proved of targets, their credentials and the image.
func targetKey(l layout.Layout) string {
	if l.Probe == "" {
		return keyOf(l.Target)
	}
	return keyOf(l.Target) + "\n" + routes.ProofOf(l)
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
