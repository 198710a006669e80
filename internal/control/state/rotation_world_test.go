package state

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// rotating is a cluster in which CA and passwords are replaced, again and again, while
// nodes go away and come back, proxies start late, switches come in between, the
// controller dies between any two writes, and the state is lost or put back. What is made
// of it is the product's own: TakeBack and WithIdentity. It is here and not in package
// switchover, which knows nothing of CA and users: of a switch only the rules are simulated
// that a rotation depends on.
type rotating struct {
	rng     *rand.Rand
	rule    rotationRule
	store   *Store
	now     time.Time
	api     rotatingAPI
	cached  map[client.ObjectKey]*corev1.Secret
	backups []rotatingAPI
	work    []func()
	proxies [2]rotatingProxy
	nodes   [3]rotatingNode
	clients [2]rotatingClient
	// inSwitch lasts until all nodes that are not left out serve what is published.
	inSwitch bool
	faults   []int
	refuses  bool // a namespace refuses its pull secret
	asked    int
	ended    map[string]int
	trusted  map[[2]string]bool
	trail    []string
	problem  string // the first thing that went wrong
}

// rotatingAPI is what the API server has.
type rotatingAPI struct {
	doc     Document
	older   []Document // copies of the document that somebody has
	secrets map[client.ObjectKey]*corev1.Secret
	layout  layout.Layout
	told    layout.Fallback // CA and password in the pull secrets
	reports [3]switchover.Report
	serves  [2]string // what the proxies' Pods say that they serve
}

// What follows is promised nothing while it has what the API server was put back to before.
type rotatingProxy struct {
	uid        int
	users      []regauth.User
	leaf       string
	uses       map[string]string
	seen       bool // its uses, by the controller
	unpromised bool
}

type rotatingNode struct {
	uid            int
	mem            layout.Layout
	away, excluded bool
	unpromised     bool
}

type rotatingClient struct {
	has        layout.Fallback
	read, used time.Time
	unpromised bool
}

// newRotating is Ready in Direct. The CA of every fourth will soon end.
func newRotating(seed uint64, rule rotationRule) *rotating {
	c := &rotating{
		rng: rand.New(rand.NewPCG(seed, 1)), rule: rule, now: noon, ended: map[string]int{}, trusted: map[[2]string]bool{},
		store: NewStore(&cluster.Client{Log: slog.New(slog.DiscardHandler)}, "cluster.local", Rotations{Idle: 24 * time.Hour, Seen: time.Hour, gap: 24 * time.Hour /* its hours are long */}),
	}
	if rule.impatient {
		c.store.rotations.Idle = 0
	}
	c.api.secrets = map[client.ObjectKey]*corev1.Secret{}
	c.api.doc.State = rotatingState(7)
	for i := range c.proxies {
		c.replaceProxy(i)
	}
	for i := range c.nodes {
		c.nodes[i].uid = i
	}
	for fault := range 9 {
		if fault < 2 || c.rng.IntN(3) == 0 {
			c.faults = append(c.faults, fault)
		}
	}
	if c.rng.IntN(4) == 0 {
		c.now = noon.Add(-pki.CALife*2/3 - time.Duration(c.rng.IntN(200))*time.Hour)
		c.round()
		c.now = noon
	}
	for range 3 {
		c.round()
	}
	return c
}

func rotatingState(generation int64) switchover.State {
	target := switchover.Target{Mode: switchover.Direct, Upstream: upstream.Upstream{Host: "r.io", Scheme: upstream.HTTPS}}
	return switchover.State{
		Schema: 1, Generation: generation, Target: target, Active: target,
		Desired: switchover.Desired{Proxy: true, Layout: layout.Layout{Generation: generation}},
	}
}

func (c *rotating) logf(format string, words ...any) {
	c.trail = append(c.trail, c.now.Format("Jan _2 15h ")+fmt.Sprintf(format, words...))
}

func (c *rotating) violate(format string, words ...any) {
	if c.problem == "" {
		c.problem = fmt.Sprintf(format, words...)
	}
}

// round lets everybody work once.
func (c *rotating) round() {
	for range 3 {
		for c.pass(); len(c.work) > 0; {
			c.write()
		}
	}
	for i := range c.proxies {
		c.loads(i)
	}
	for i := range c.nodes {
		c.reads(i)
		c.reports(i)
	}
	for i := range c.clients {
		c.asks(i)
	}
	c.inSwitch = c.inSwitch && !c.isKnown()
}

func (c *rotating) loads(i int) {
	secret := c.api.secrets[cluster.Here(v1alpha1.SecretProxy)]
	if secret == nil {
		return
	}
	p := &c.proxies[i]
	p.users, p.leaf, p.unpromised = nil, string(secret.Data[corev1.TLSCertKey]), false
	_ = yaml.Unmarshal(secret.Data[v1alpha1.KeyProxyUsers], &p.users)
	c.api.serves[i] = fmt.Sprint(p.users, p.leaf)
	c.logf("proxy %d: %d passwords, certificate %.4s", i, len(p.users), HashOf(p.leaf))
}

// replaceProxy makes a new Pod, which has not started yet. What the old one told is seen
// before it is gone.
func (c *rotating) replaceProxy(i int) {
	if c.proxies[i].uses == nil || c.proxies[i].seen {
		c.asked++
		c.api.serves[i] = ""
		c.proxies[i] = rotatingProxy{uid: c.asked, uses: map[string]string{}}
	}
}

func (c *rotating) reads(i int) {
	n := &c.nodes[i]
	if !n.away && c.api.layout.Generation > n.mem.Generation {
		n.mem, n.unpromised = c.api.layout, false
		c.logf("node %d: serves %d", i, n.mem.Generation)
	}
}

func (c *rotating) reports(i int) {
	n := &c.nodes[i]
	if n.away {
		return
	}
	r := switchover.Report{UID: fmt.Sprint(n.uid), Generation: n.mem.Generation}
	if l := c.api.layout; l.Generation < n.mem.Generation || l.Generation == n.mem.Generation && l.Fallback != n.mem.Fallback {
		r.Ahead = n.mem.Generation
	}
	c.api.reports[i] = r
}

func (c *rotating) asks(i int) {
	c.clients[i] = rotatingClient{has: c.api.told, read: c.now}
	c.logf("client %d: reads %.4s", i, c.api.told.Credentials.Password)
}

// uses is a pull through a proxy by a client or by a node whose agent is away.
func (c *rotating) uses(p *rotatingProxy) {
	tell := func(name, password string) bool {
		i := slices.IndexFunc(p.users, func(u regauth.User) bool { return u.Name == name })
		if !accepts(p, name, password) {
			return false
		}
		if i >= 0 && p.users[i].SHA256 != HashOf(password) {
			p.uses[name], p.seen = c.now.Format(time.RFC3339Nano), false
		}
		return true
	}
	if n := c.nodes[c.rng.IntN(len(c.nodes))]; !n.away {
		tell(UserNode, n.mem.Fallback.Credentials.Password)
	}
	client := &c.clients[c.rng.IntN(len(c.clients))]
	stored := rotatingProxy{users: c.api.doc.Accepted()} // after that a slow proxy may still take it
	if password := client.has.Credentials.Password; tell(UserClient, password) && accepts(&stored, UserClient, password) {
		client.used = c.now
		c.logf("proxy %d: used by a client with %.4s", p.uid, client.has.Credentials.Password)
	}
}

func accepts(p *rotatingProxy, name, password string) bool {
	return slices.ContainsFunc(p.users, func(u regauth.User) bool { return u.Name == name && u.SHA256 == HashOf(password) })
}

// trusts reports whether who trusts these CAs takes the certificate of a proxy.
func (c *rotating) trusts(bundle, leaf string) bool {
	known, ok := c.trusted[[2]string{bundle, leaf}]
	if ok {
		return known
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	if block, _ := pem.Decode([]byte(leaf)); block != nil {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err == nil {
			_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.now, DNSName: "registry.d8-system.svc"})
		}
		known = err == nil
	}
	c.trusted[[2]string{bundle, leaf}] = known
	return known
}

// promise is what each proxy owes: to nodes, also to those that are away and come back,
// whatever they have; to clients that have read the pull secrets within a day, and to
// those that have pulled by a password within a day.
func (c *rotating) promise() {
	for i := range c.proxies {
		p := &c.proxies[i]
		if p.leaf == "" || p.unpromised {
			continue
		}
		for j, n := range c.nodes {
			switch to := n.mem.Fallback; {
			case n.mem.Generation == 0 || n.unpromised:
			case !accepts(p, UserNode, to.Credentials.Password):
				c.violate("proxy %d refuses node %d, which serves %d", i, j, n.mem.Generation)
			case !c.trusts(to.CA, p.leaf):
				c.violate("node %d, which serves %d, refuses proxy %d", j, n.mem.Generation, i)
			}
		}
		for j, n := range c.clients {
			used := n.read
			if n.used.After(used) {
				used = n.used
			}
			switch {
			case n.unpromised:
			case c.now.Sub(used) <= 24*time.Hour && !accepts(p, UserClient, n.has.Credentials.Password):
				c.violate("proxy %d refuses client %d", i, j)
			case c.now.Sub(n.read) <= 24*time.Hour && !c.trusts(n.has.CA, p.leaf):
				c.violate("client %d refuses proxy %d", j, i)
			}
		}
	}
}
