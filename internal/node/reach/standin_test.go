package reach

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/store"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/datapath/store/status"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// scene is two registries with the module's image, and stores in front of them.
type scene struct {
	t      *testing.T
	a, b   *testregistry.Registry
	probe  string
	ca     pki.KeyPair
	stores []string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t}
	for _, r := range []**testregistry.Registry{&s.a, &s.b} {
		*r = testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "of the registry", Bearer: true})
	}
	img := s.a.PushRandom(t, "d8", "module", 1, 10)
	s.b.Push(t, "d8", "module", img)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s.probe = "@" + digest.String()
	if s.ca, err = pki.NewCA(time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// settled is the layout of a cluster that is on a registry, and moving one on its way to b.
func (s *scene) settled(r *testregistry.Registry) layout.Layout {
	u := r.Upstream("d8")
	return layout.Layout{
		Schema: layout.Schema, Generation: 1, Mode: "Proxy", ActiveMode: "Proxy", Active: u, Target: u, Probe: s.probe,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u}),
	}
}

func (s *scene) moving() layout.Layout {
	a, b := s.a.Upstream("d8"), s.b.Upstream("d8")
	l := s.settled(s.b)
	l.Active, l.Routes = a, layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(a), layout.NameOf(b)}, []upstream.Upstream{a, b})
	return l
}

// store runs one by a layout. If it can prove the target, it has.
func (s *scene) store(l layout.Layout, proves bool) {
	s.t.Helper()
	cfg := store.Config{
		ConfigDir: s.t.TempDir(), Data: s.t.TempDir(), Listen: loopback.Address(s.t), Health: loopback.Address(s.t),
		Quota: 1 << 30, Drain: 10 * time.Second,
	}
	host, _, _ := net.SplitHostPort(cfg.Listen)
	leaf, _, err := pki.EnsureLeaf(time.Now(), s.ca, pki.KeyPair{}, []string{host})
	if err != nil {
		s.t.Fatal(err)
	}
	content := fronttest.Content(s.t, 1, l.Target)
	if content[v1alpha1.KeyProxyLayout], err = layout.Encode(l); err != nil {
		s.t.Fatal(err)
	}
	content["tls.crt"], content["tls.key"] = []byte(leaf.Cert), []byte(leaf.Key)
	fronttest.WriteFiles(s.t, cfg.ConfigDir, content)
	ctx, stop := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx, cfg, slog.New(slog.NewTextHandler(s.t.Output(), nil))) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.t.Errorf("the store ended: %v", err)
		}
	})
	s.stores = append(s.stores, cfg.Listen)
	for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
		now := statusOf(s.t, "http://"+cfg.Health+"/status")
		if now.Ready && (!proves || now.Proven == l.Generation) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the store: %+v", now)
		}
	}
}

// statusOf is zero before a store listens.
func statusOf(t *testing.T, url string) (now status.Store) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return status.Store{}
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&now); err != nil {
		t.Fatal(err)
	}
	return now
}

// with is a layout of nodes: with the stores.
func (s *scene) with(l layout.Layout) layout.Layout {
	l.Stores = layout.Stores{
		Endpoints: slices.Sorted(slices.Values(s.stores)), CA: s.ca.Cert,
		Credentials: upstream.Credentials{Username: "node", Password: fronttest.NodePassword},
	}
	if len(s.stores) == 0 {
		l.Stores = layout.Stores{}
	}
	return l
}

// check is what a node says that does not reach the registry.
func (s *scene) check(l layout.Layout) (bool, *report.Report) {
	c := New("node", time.Hour, 0)
	c.prove = func(context.Context, layout.Layout) error { return errors.New("no route to host") }
	c.ping = func(context.Context, upstream.Upstream) error { return nil }
	r := report.New(report.Options{}).Begin()
	return c.Check(s.t.Context(), r, l), r
}

// TestAStoreStandsInForTheTarget, for a node that does not reach it: real stores, as their program
// runs them.
func TestAStoreStandsInForTheTarget(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before func(*scene) // stores come
		layout func(*scene) layout.Layout
		want   string // in what it says; empty: it may report
	}{
		"settled, and the registry is gone": {
			before: func(s *scene) { s.b.Stop(); s.store(s.settled(s.b), false) },
			layout: func(s *scene) layout.Layout { return s.settled(s.b) },
		},
		"settled, and stores know the next one already": {
			before: func(s *scene) { s.a.Stop(); s.b.Stop(); s.store(s.moving(), false) },
			layout: func(s *scene) layout.Layout { return s.settled(s.a) },
		},
		"a new target that the store reaches": {
			before: func(s *scene) { s.store(s.moving(), true) },
			layout: (*scene).moving,
		},
		"a new target that was proved, kept, and is gone": {
			before: func(s *scene) {
				s.store(s.moving(), true)
				s.check(s.with(s.moving())) // so that it is kept
				s.a.Stop()
				s.b.Stop()
			},
			layout: (*scene).moving,
		},
		"a new target that is gone, and another one has the image": {
			before: func(s *scene) { s.b.Stop(); s.store(s.moving(), false) },
			layout: (*scene).moving,
			want:   "has not proved the target yet",
		},
		"a store that does not know the target": {
			before: func(s *scene) { s.store(s.settled(s.a), true) },
			layout: func(s *scene) layout.Layout { return s.settled(s.b) },
			want:   "not found",
		},
		"a store that has other credentials of it": {
			before: func(s *scene) { s.store(s.settled(s.b), true) },
			layout: func(s *scene) layout.Layout {
				l := s.settled(s.b)
				l.Target.Credentials.Password = "of tomorrow"
				l.Active = l.Target
				return l
			},
			want: "does not know the target",
		},
		"no store": {
			layout: func(s *scene) layout.Layout { return s.settled(s.b) },
			want:   "no route to host",
		},
		"a store that is dead": {
			before: func(s *scene) { s.stores = []string{loopback.Address(s.t)} },
			layout: func(s *scene) layout.Layout { return s.settled(s.b) },
			want:   "connection refused",
		},
		"stores are on their way out": {
			before: func(s *scene) { s.store(s.settled(s.b), true) },
			layout: func(s *scene) layout.Layout {
				l := s.settled(s.b)
				l.Mode = "Direct"
				return l
			},
			want: "no route to host",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			if tc.before != nil {
				tc.before(s)
			}
			l := s.with(tc.layout(s))
			ok, r := s.check(l)
			problems := strings.Join(r.Problems(), "; ")
			if ok != (tc.want == "") || !strings.Contains(problems, tc.want) || ok && problems != "" {
				t.Errorf("%t %q", ok, problems)
			}
			for _, u := range r.Status.Upstreams {
				if own := u.Registry == l.Target.String(); own && (u.Reached || !strings.Contains(u.Message, "no route to host") || strings.Contains(u.Message, "; store ") != ok) {
					t.Errorf("of the target itself: %+v", u)
				}
			}
		})
	}
}

// TestAStoreThatIsSilent takes no time from the next one. That one is asked for nothing if it refuses
// the node.
func TestAStoreThatIsSilent(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.store(s.settled(s.b), true)
	good := s.stores[0]
	for owner.Of("node", s.stores)[0] == good {
		s.stores = append(s.stores, s.silent())
	}
	l := s.with(s.settled(s.b))
	if ok, r := s.check(l); !ok {
		t.Errorf("%q", r.Problems())
	}
	l.Stores.Endpoints, l.Stores.Credentials.Password = []string{good}, "of yesterday"
	if ok, r := s.check(l); ok || !strings.Contains(strings.Join(r.Problems(), ""), "401") {
		t.Errorf("a store that refuses the node: %t, %q", ok, r.Problems())
	}
}

// silent is a store that is asked, and never answers.
func (s *scene) silent() string {
	s.t.Helper()
	at := loopback.Address(s.t)
	host, _, _ := net.SplitHostPort(at)
	leaf, _, err := pki.EnsureLeaf(time.Now(), s.ca, pki.KeyPair{}, []string{host})
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(leaf.Cert), []byte(leaf.Key))
	if err != nil {
		s.t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(s.t.Context(), "tcp", at)
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	_ = server.Listener.Close()
	server.Listener, server.TLS = listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	s.t.Cleanup(server.Close)
	return at
}

// TestWhenStoresAreAsked: not while the target serves, or stands all the same; and a store's word is
// for the layout that it was asked for.
func TestWhenStoresAreAsked(t *testing.T) {
	t.Parallel()
	target := upstream.Upstream{Host: "b.example.com", Scheme: upstream.HTTPS}
	l := layout.Layout{
		Mode: "Proxy", Active: target, Target: target, Probe: ":module", Stores: layout.Stores{Endpoints: []string{"10.0.0.1:5001"}},
		Routes: layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{target}),
	}
	away, refuses, limits := errors.New("no route to host"), judge.Errorf(judge.Refused, "refused us"), judge.Errorf(judge.RateLimited, "429")
	change := func(l layout.Layout, how func(*layout.Layout)) layout.Layout { how(&l); return l }
	fromA := change(l, func(l *layout.Layout) { l.Active.Host = "a.example.com" })
	direct := change(l, func(l *layout.Layout) { l.Mode = "Direct" })
	others := change(l, func(l *layout.Layout) { l.Stores.Endpoints = []string{"10.0.0.2:5001"} })
	older := change(l, func(l *layout.Layout) { l.Probe = "" })
	type step struct {
		layout  layout.Layout
		target  error
		stands  bool // the store
		after   time.Duration
		asked   string // who is: t the target, s the store
		ok      bool
		failing bool
	}
	for name, steps := range map[string][]step{
		"the target serves":            {{l, nil, true, 0, "t", true, false}},
		"it refuses us, and stands":    {{l, refuses, true, 0, "t", true, true}},
		"a new one refuses us":         {{fromA, refuses, true, 0, "t", false, false}, {fromA, refuses, true, deadAgain, "t", false, false}},
		"a new one has a limit":        {{fromA, limits, false, 0, "ts", false, false}},
		"it is away":                   {{l, away, true, 0, "ts", true, false}, {l, away, true, time.Second, "", true, false}, {l, nil, true, deadAgain, "t", true, false}, {l, away, true, 5 * time.Minute, "ts", true, false}},
		"no store either":              {{l, away, false, 0, "ts", false, false}, {l, away, true, time.Second, "ts", true, false}},
		"the mode takes stores away":   {{l, away, true, 0, "ts", true, false}, {direct, away, true, time.Second, "t", false, false}},
		"the store leaves":             {{l, away, true, 0, "ts", true, false}, {others, away, false, time.Second, "ts", false, false}},
		"less was asked of the store":  {{l, away, true, 0, "ts", true, false}, {fromA, away, false, time.Second, "ts", false, false}},
		"enough was asked":             {{fromA, away, true, 0, "ts", true, false}, {l, away, false, time.Second, "", true, false}},
		"no image is known, or Direct": {{older, away, true, 0, "t", false, false}, {direct, away, true, 0, "t", false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, now, asked := New("node", 5*time.Minute, 0), time.Now(), ""
			c.now = func() time.Time { return now }
			c.ping = func(context.Context, upstream.Upstream) error { return nil }
			for i, step := range steps {
				asked, now = "", now.Add(step.after)
				c.prove = func(context.Context, layout.Layout) error { asked += "t"; return step.target }
				c.again = c.prove
				c.standIn = func(_ context.Context, l layout.Layout) (string, error) {
					asked += "s"
					if step.stands {
						return l.Stores.Endpoints[0], nil
					}
					return l.Stores.Endpoints[0], errors.New("it does not know the target")
				}
				r := report.New(report.Options{}).Begin()
				ok := c.Check(t.Context(), r, step.layout)
				if u := r.Status.Upstreams[0]; ok != step.ok || asked != step.asked || u.Failing != step.failing || u.Reached != (step.target == nil) {
					t.Errorf("step %d: %t, asked %q, %+v", i, ok, asked, u)
				}
				if quiet := step.ok && !step.failing; len(r.Problems()) > 0 == quiet {
					t.Errorf("step %d: %q", i, r.Problems())
				}
			}
		})
	}
}
