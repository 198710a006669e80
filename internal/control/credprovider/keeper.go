package credprovider

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	// DefaultSoonest is how soon new credentials are asked for at most: each time is a
	// write that every node reads.
	DefaultSoonest = time.Minute
	// latest is how late they are asked for, however long the last ones are good.
	latest = 12 * time.Hour
	// firstRetry is the pause after a failure; it doubles up to Config.Soonest.
	firstRetry = 5 * time.Second
	tryTime    = 10 * time.Second
)

// Config is what a Keeper needs.
type Config struct {
	Providers []Provider
	// Own is our own image below a base: it is what plugins are asked for, and what
	// credentials are tried with.
	Own string
	// Open makes a registry of an upstream that has credentials.
	Open func(upstream.Upstream) (judge.Registry, error)
	// Soonest is the least time between two tries of one upstream, failures aside.
	Soonest time.Duration
	Metrics prometheus.Registerer
	Now     func() time.Time
	Wake    func()
	Log     *slog.Logger
}

// Keeper keeps credentials fresh of the upstreams that are wanted.
type Keeper struct {
	Config
	ends     *prometheus.GaugeVec
	failures *prometheus.CounterVec

	mu      sync.Mutex
	kept    map[upstream.Upstream]*kept
	changed chan struct{}
}

// kept is what is known of one upstream.
type kept struct {
	grant   state.Grant // its password is empty before the first one
	problem string      // why there is no newer one; empty if all is well
	failed  int         // times in a row
	due     time.Time
	running bool
}

// NewKeeper makes a Keeper. It does nothing until Run.
func NewKeeper(c Config) (*Keeper, error) {
	k := &Keeper{Config: c, kept: map[upstream.Upstream]*kept{}, changed: make(chan struct{}, 1)}
	k.ends = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "registry_credentials_expiry_timestamp_seconds", Help: "When the credentials end that a provider gave for a registry.",
	}, []string{"upstream"})
	k.failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "registry_credentials_failures_total", Help: "Tries to get new credentials of a registry from a provider that failed.",
	}, []string{"upstream"})
	if err := errors.Join(c.Metrics.Register(k.ends), c.Metrics.Register(k.failures)); err != nil {
		return nil, fmt.Errorf("register metrics of credentials: %w", err)
	}
	return k, nil
}

// Provides reports whether a provider is to be asked for an upstream's credentials.
func (k *Keeper) Provides(u upstream.Upstream) bool {
	return slices.ContainsFunc(k.Providers, func(p Provider) bool { return p.about(k.image(u)) })
}

// image is our own one at an upstream, without tag and digest.
func (k *Keeper) image(u upstream.Upstream) string {
	repository, _, _, err := layout.ManifestOf(layout.NameOf(u), k.Own)
	if err != nil {
		repository = u.Path
	}
	return u.Host + "/" + repository
}

// Want says for which upstreams credentials are needed, and which ones are known of an
// earlier process. Others are forgotten.
func (k *Keeper) Want(wanted []upstream.Upstream, known []state.Grant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for u := range k.kept {
		if !slices.Contains(wanted, u) {
			delete(k.kept, u)
			k.show(u)
		}
	}
	for _, u := range wanted {
		if k.kept[u] != nil {
			continue
		}
		one := &kept{due: time.Now()}
		if i := slices.IndexFunc(known, func(g state.Grant) bool { return g.Of == u.ID() }); i >= 0 {
			one.grant = known[i]
			one.due = time.Now().Add(k.pause(one.grant))
		}
		k.kept[u] = one
		k.show(u)
		k.signal()
	}
}

// Grants are the credentials that are known, in a certain order.
func (k *Keeper) Grants() []state.Grant {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []state.Grant
	for _, one := range k.kept {
		if one.grant.Password != "" {
			all = append(all, one.grant)
		}
	}
	slices.SortFunc(all, func(a, b state.Grant) int { return strings.Compare(a.Of, b.Of) })
	return all
}

// With is an upstream with the credentials of the moment, if they are provided.
func (k *Keeper) With(u upstream.Upstream) upstream.Upstream {
	if !u.Provided {
		return u
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if one := k.kept[u.Lasting()]; one != nil {
		u.Credentials = one.grant.Credentials
	}
	return u
}

// Problem says why there are no new credentials of an upstream; empty if all is well.
func (k *Keeper) Problem(u upstream.Upstream) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.kept[u]
	switch {
	case one == nil || one.problem == "":
		return ""
	case one.grant.Password == "":
		return one.problem
	case one.grant.Until.IsZero():
		return one.problem + "; the last good ones are used, and it is not known when they end"
	}
	return one.problem + "; the last good ones are used, until " + one.grant.Until.UTC().Format(time.RFC3339)
}

// Run works until ctx ends. Each upstream is served by itself: one plugin that hangs
// keeps nobody waiting.
func (k *Keeper) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		due, next := k.due()
		for u, one := range due {
			running.Go(func() { k.renew(ctx, u, one) })
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due are the upstreams whose time has come, and in how long there may be another one.
func (k *Keeper) due() (due map[upstream.Upstream]*kept, next time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	due, next = map[upstream.Upstream]*kept{}, latest
	for u, one := range k.kept {
		if one.running {
			continue
		}
		if left := time.Until(one.due); left > 0 {
			next = min(next, left)
			continue
		}
		one.running = true
		due[u] = one
	}
	return due, next
}

// renew asks once for new credentials. The last good ones stay if there are none.
func (k *Keeper) renew(ctx context.Context, u upstream.Upstream, one *kept) {
	grant, err := k.ask(ctx, u)
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	if k.kept[u] != one {
		k.mu.Unlock()
		return // nobody wants it any more, or somebody does again, who has asked since
	}
	one.running = false
	if err != nil {
		one.problem = foreign.Line(err.Error(), 2*foreign.Sentence)
		one.due = time.Now().Add(max(min(firstRetry<<min(one.failed, 10), k.Soonest), time.Millisecond))
		one.failed++
		k.failures.WithLabelValues(u.String()).Inc()
		k.Log.Warn("no new credentials", "upstream", u.String(), "err", one.problem)
	} else {
		one.grant, one.problem, one.failed = grant, "", 0
		one.due = time.Now().Add(k.pause(grant))
		k.show(u)
		k.Log.Info("new credentials", "upstream", u.String(), "until", grant.Until)
	}
	k.mu.Unlock()
	k.signal()
	k.Wake()
}

// ask asks the providers in their order until one gives credentials that are good.
func (k *Keeper) ask(ctx context.Context, u upstream.Upstream) (state.Grant, error) {
	image, err := k.image(u), error(nil)
	for _, p := range k.Providers {
		if !p.about(image) {
			continue
		}
		now := k.Now()
		given, asked := p.ask(ctx, image, nil)
		if asked == nil {
			asked = k.try(ctx, u, given.Credentials)
		}
		if asked == nil {
			grant := state.Grant{Of: u.ID(), Credentials: given.Credentials, From: now}
			if given.life > 0 {
				grant.Until = now.Add(given.life)
			}
			return grant, nil
		}
		err = errors.Join(err, fmt.Errorf("provider %s: %w", p.Name, asked))
	}
	if err == nil {
		err = errors.New("no credential provider is configured for it")
	}
	return state.Grant{}, err
}

// try shows new credentials to the registry before any node hears of them. What cannot
// be tried is taken only if the last ones are no good any more.
func (k *Keeper) try(ctx context.Context, u upstream.Upstream, c upstream.Credentials) error {
	last := k.With(u).Credentials
	if c == last {
		return nil
	}
	u.Credentials = c
	registry, err := k.Open(u)
	if err != nil {
		return err
	}
	if idle, ok := registry.Transport.(interface{ CloseIdleConnections() }); ok {
		defer idle.CloseIdleConnections()
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	// Some registries refuse what they do not have, and some let everybody in who only
	// says hello.
	err = registry.Image(ctx, k.Own, nil)
	if judge.Of(err).Refusal() {
		err = registry.Ping(ctx)
	}
	switch o := judge.Of(err); {
	case o.Refusal():
		return errors.New("the registry refuses the credentials that the plugin gives")
	case o.OfRegistry():
		if k.ended(u.Lasting()) {
			return nil
		}
		return errors.New("the registry does not say whether it accepts the credentials that the plugin gives")
	default:
		return nil
	}
}

// ended reports whether the credentials of an upstream are no good any more.
func (k *Keeper) ended(u upstream.Upstream) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.kept[u]
	return one == nil || one.grant.Password == "" || !one.grant.Until.IsZero() && !k.Now().Before(one.grant.Until)
}

// pause is how long a grant is left alone: about half of its life. Where exactly follows
// from when it was made, so that many clusters of one account do not ask at once.
func (k *Keeper) pause(g state.Grant) time.Duration {
	if g.From.Sub(k.Now()) > k.Soonest {
		return 0 // by a clock that was ahead: how old it is is not known
	}
	life := g.Until.Sub(g.From)
	if g.Until.IsZero() {
		life = 0
	}
	jitter := life / 5 * time.Duration(g.From.UnixMicro()%1000) / 1000
	left := g.From.Add(life*2/5 + jitter).Sub(k.Now())
	return min(max(left, k.Soonest-k.Now().Sub(g.From).Abs(), 0), latest)
}

// show shows when credentials of an upstream end. Of several that differ in what the
// label does not say, such as the CA, those that end first count.
func (k *Keeper) show(u upstream.Upstream) {
	label, known, first := u.String(), false, time.Time{}
	for other, one := range k.kept {
		if other.String() == label {
			known = true
			if at := one.grant.Until; first.IsZero() || !at.IsZero() && at.Before(first) {
				first = at
			}
		}
	}
	if !known {
		k.failures.DeleteLabelValues(label)
	}
	if first.IsZero() {
		k.ends.DeleteLabelValues(label)
		return
	}
	k.ends.WithLabelValues(label).Set(float64(first.Unix()))
}

func (k *Keeper) signal() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}
