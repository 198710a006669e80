package credprovider

import (
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/credplugin"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// bed is a Keeper that runs, with a real plugin and a real registry.
type bed struct {
	t        *testing.T
	registry *testregistry.Registry
	plugin   *credplugin.Plugin
	of       upstream.Upstream
	keeper   *Keeper
	metrics  *prometheus.Registry

	mu    sync.Mutex
	ahead time.Duration
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{t: t, registry: testregistry.New(t, testregistry.Options{TLS: true, Username: "first", Password: "password-1"}), metrics: prometheus.NewRegistry()}
	b.registry.PushRandom(t, "d8", "module", 1, 64)
	b.plugin = credplugin.New(t, b.registry.Host())
	b.of = b.registry.Upstream("d8")
	b.of.Provided = true
	b.of = b.of.Lasting()
	var err error
	b.keeper, err = NewKeeper(Config{
		Providers: []Provider{load(t, b.plugin)}, Own: ":module", Soonest: 20 * time.Millisecond,
		Open: func(u upstream.Upstream) (judge.Registry, error) {
			tr, err := transport.New(u)
			return judge.Registry{Upstream: u, Transport: http.RoundTripper(tr)}, err
		},
		Metrics: b.metrics, Now: b.now, Wake: func() {}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = b.keeper.Run(t.Context()) })
	t.Cleanup(running.Wait)
	return b
}

func (b *bed) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Add(b.ahead)
}

func (b *bed) later(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ahead += d
}

func (b *bed) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			b.t.Fatalf("not in time: %s; password %q, problem %q", what, b.password(), b.keeper.Problem(b.of))
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-b.t.Context().Done():
		}
	}
}

func (b *bed) password() string { return b.keeper.With(b.of).Credentials.Password }

// metric is the value of a metric of the registry; -1 if there is none.
func (b *bed) metric(name string) float64 {
	b.t.Helper()
	all, err := b.metrics.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, family := range all {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue() + family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return -1
}

// TestTheLastGoodOnesStay whatever a plugin does, and new ones are taken as soon as it
// gives some that the registry accepts.
func TestTheLastGoodOnesStay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.plugin.Gives(b.registry.Host(), "first", "password-1", 50*time.Millisecond)
	if b.keeper.Want([]upstream.Upstream{b.of}, nil); !b.keeper.Provides(b.of) {
		t.Fatal("nobody is asked")
	}
	b.until("the first ones", func() bool { return b.password() == "password-1" })
	if ends := b.metric("registry_credentials_expiry_timestamp_seconds"); ends < float64(time.Now().Add(-time.Minute).Unix()) {
		t.Errorf("they end at %v", ends)
	}
	for _, row := range []struct {
		does credplugin.Script
		want string
	}{
		{credplugin.Script{Exit: 1, Stderr: "SECRET"}, "provider test-provider: the plugin ends with exit status 1; the last good ones are used, until 20"},
		{credplugin.Script{Stdout: "SECRET"}, "no JSON"},
		{credplugin.Script{Stdout: credplugin.Answer(b.registry.Host(), "first", "SECRET", time.Hour)}, "the registry refuses the credentials that the plugin gives"},
		{credplugin.Script{Stdout: credplugin.Answer("evil.example.org", "first", "SECRET", time.Hour)}, "1 other name(s)"},
	} {
		b.plugin.Does(row.does)
		b.until(row.want, func() bool { return strings.Contains(b.keeper.Problem(b.of), row.want) })
		if problem := b.keeper.Problem(b.of); b.password() != "password-1" || strings.Contains(problem, "SECRET") {
			t.Fatalf("%q: %s", b.password(), problem)
		}
	}
	if failures := b.metric("registry_credentials_failures_total"); failures < 4 {
		t.Errorf("%v failures", failures)
	}
	b.registry.AddUser("second", "password-2")
	b.plugin.Gives(b.registry.Host(), "second", "password-2", time.Hour)
	b.until("the second ones", func() bool { return b.password() == "password-2" && b.keeper.Problem(b.of) == "" })
	grants := b.keeper.Grants()
	if len(grants) != 1 || grants[0].Of != b.of.ID() || grants[0].Username != "second" || grants[0].Until.Sub(grants[0].From) != time.Hour {
		t.Errorf("%+v", grants)
	}
	b.keeper.Want(nil, nil)
	if b.password() != "" || b.metric("registry_credentials_expiry_timestamp_seconds") != -1 {
		t.Error("what nobody wants is kept")
	}
}

// TestWhatCannotBeTriedWaits as long as the last ones are good: nothing unproved is
// relied upon. When they have ended there is nothing to lose.
func TestWhatCannotBeTriedWaits(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*bed){
		"nobody answers": func(b *bed) { b.registry.Stop() },
		"a web page":     func(b *bed) { b.registry.SetFaults(testregistry.Faults{Answer: testregistry.WebPage}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			fail(b)
			b.plugin.Gives(b.registry.Host(), "second", "password-2", time.Hour)
			known := state.Grant{Of: b.of.ID(), Credentials: upstream.Credentials{Username: "first", Password: "password-1"}, From: b.now().Add(-time.Hour), Until: b.now().Add(time.Minute)}
			b.keeper.Want([]upstream.Upstream{b.of}, []state.Grant{known})
			b.until("it is said", func() bool {
				return strings.Contains(b.keeper.Problem(b.of), "does not say whether it accepts")
			})
			if b.password() != "password-1" {
				t.Errorf("%q is used, which was never tried", b.password())
			}
			b.later(2 * time.Minute)
			b.until("they are taken", func() bool { return b.password() == "password-2" })
		})
	}
}

// TestPace: new ones are asked for at about half of their life, by when each was made,
// and a plugin that says a second, or nothing, is not asked more often than that.
func TestPace(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	k := &Keeper{Config: Config{Soonest: time.Minute, Now: func() time.Time { return now }}}
	made := func(from time.Time, life time.Duration) state.Grant {
		return state.Grant{From: from, Until: from.Add(life)}
	}
	different := map[time.Duration]bool{}
	for i := range 100 {
		from := now.Add(-time.Duration(i*37) * time.Microsecond)
		pause := k.pause(made(from, 12*time.Hour))
		if pause < 12*time.Hour*2/5-time.Second || pause > 12*time.Hour*3/5 {
			t.Fatalf("a password of 12 h is left alone for %v", pause)
		}
		different[pause.Round(time.Minute)] = true
	}
	if len(different) < 20 {
		t.Errorf("there are only %d different pauses", len(different))
	}
	for _, row := range []struct {
		what     string
		grant    state.Grant
		from, to time.Duration
	}{
		{"a life of a second", made(now, time.Second), time.Minute, time.Minute},
		{"a life that is not known", state.Grant{From: now}, time.Minute, time.Minute},
		{"a life of a year", made(now, 8760*time.Hour), 12 * time.Hour, 12 * time.Hour},
		{"from the last process, past its half", made(now.Add(-8*time.Hour), 12*time.Hour), 0, 0},
		{"from the last process, of a clock that is ahead", made(now.Add(1000*time.Hour), 12*time.Hour), 0, 0},
		{"all that is left of a lost state", state.Grant{}, 0, 0},
	} {
		if pause := k.pause(row.grant); pause < row.from || pause > row.to {
			t.Errorf("%s: %v", row.what, pause)
		}
	}
}

// TestAnotherCAHidesNoEnd: while the CA of a registry is replaced both are wanted, and
// have one label. When the old one goes, the metric is of the other one.
func TestAnotherCAHidesNoEnd(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	metrics := prometheus.NewRegistry()
	k, err := NewKeeper(Config{Soonest: time.Minute, Metrics: metrics, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, metrics: metrics}
	before := upstream.Upstream{Scheme: upstream.HTTPS, Host: "registry.example.com", Path: "d8", CA: "one", Provided: true}
	after := before
	after.CA = "two"
	until := func(u upstream.Upstream, hours int) state.Grant {
		return state.Grant{Of: u.ID(), Credentials: upstream.Credentials{Username: "u", Password: "p"}, From: now, Until: now.Add(time.Duration(hours) * time.Hour)}
	}
	grants := []state.Grant{until(before, 2), until(after, 12)}
	shows := func(when string, want float64) {
		t.Helper()
		if got := b.metric("registry_credentials_expiry_timestamp_seconds"); got != want {
			t.Errorf("%s: %.0f, want %.0f", when, got, want)
		}
	}
	k.Want([]upstream.Upstream{before, after}, grants)
	shows("the first end counts", float64(grants[0].Until.Unix()))
	k.Want([]upstream.Upstream{after, before}, nil)
	shows("in any order", float64(grants[0].Until.Unix()))
	k.Want([]upstream.Upstream{after}, nil)
	shows("the old one is gone", float64(grants[1].Until.Unix()))
	k.Want(nil, nil)
	shows("both are", -1)
}

// TestAnOlderAnswerIsDropped: one that comes when its upstream was forgotten and wanted
// anew, and asked for again, changes nothing.
func TestAnOlderAnswerIsDropped(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.registry.AddUser("second", "password-2")
	c := b.keeper.Config
	c.Metrics = prometheus.NewRegistry()
	var k *Keeper
	ask := func() {
		k.Want([]upstream.Upstream{b.of}, nil)
		due, _ := k.due()
		for u, one := range due {
			k.renew(t.Context(), u, one)
		}
	}
	open := c.Open
	c.Open = func(u upstream.Upstream) (judge.Registry, error) {
		if u.Credentials.Password == "password-1" {
			k.Want(nil, nil)
			b.plugin.Gives(b.registry.Host(), "second", "password-2", time.Hour)
			ask()
		}
		return open(u)
	}
	var err error
	if k, err = NewKeeper(c); err != nil {
		t.Fatal(err)
	}
	b.plugin.Gives(b.registry.Host(), "first", "password-1", time.Hour)
	ask()
	if got := k.With(b.of).Credentials.Password; got != "password-2" {
		t.Errorf("%q is used: %s", got, k.Problem(b.of))
	}
}
