package state

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// step lets one thing happen.
func (c *rotating) step(of []string) {
	i := c.rng.IntN(len(c.nodes))
	n := &c.nodes[i]
	switch c.rng.IntN(16) {
	case 0, 1, 2, 3, 4:
		if len(c.work) > 0 {
			c.write()
		} else {
			c.pass()
		}
	case 5, 6:
		c.loads(c.rng.IntN(len(c.proxies)))
	case 7, 8:
		read := c.rng.IntN(2) == 0
		for i := range c.nodes {
			if read {
				c.reads(i)
			} else {
				c.reports(i)
			}
		}
	case 9:
		c.logf("node %d: away %v", i, !n.away)
		n.away = !n.away && c.rng.IntN(3) == 0
		n.excluded = n.away && c.rng.IntN(2) == 0
	case 10:
		c.asks(c.rng.IntN(len(c.clients)))
	case 11:
		c.uses(&c.proxies[c.rng.IntN(len(c.proxies))])
	case 12, 13:
		c.now = c.now.Add(time.Duration(c.rng.IntN(13)) * time.Hour)
		c.inSwitch = c.rng.IntN(10) == 0 || c.inSwitch && !c.isKnown()
	case 14:
		c.annotate(of[c.rng.IntN(len(of))])
	default:
		if c.rng.IntN(2) == 0 {
			c.fault(i)
		}
	}
}

func (c *rotating) annotate(of string) {
	key := cluster.Here(of)
	if have := c.api.secrets[key]; have != nil && c.rng.IntN(2) == 0 {
		c.asked++
		secret := have.DeepCopy()
		cluster.SetAnnotation(secret, v1alpha1.AnnotationRotate, fmt.Sprint(c.asked))
		c.api.secrets[key] = secret
	}
}

func (c *rotating) fault(i int) {
	restart := func() { c.work, c.cached, c.store.ends = nil, nil, time.Time{}; clear(c.store.looked) }
	switch c.faults[c.rng.IntN(len(c.faults))] {
	case 0:
		restart()
	case 1:
		c.replaceProxy(c.rng.IntN(len(c.proxies)))
	case 2: // a node is made anew
		c.asked++
		c.nodes[i] = rotatingNode{uid: c.asked}
	case 3:
		c.logf("STATE is lost")
		c.api.doc = Document{}
		restart()
	case 4:
		if len(c.api.older) > 0 {
			c.api.doc = c.api.older[c.rng.IntN(len(c.api.older))]
			c.logf("STATE is restored: generation %d, layout %d, %v", c.api.doc.Generation, c.api.doc.Desired.Layout.Generation, c.api.doc.RotationsUnderWay())
			restart()
		}
	case 7:
		c.refuses = !c.refuses
	case 5, 6:
		kept := c.api
		kept.secrets = maps.Clone(kept.secrets)
		c.backups = append(c.backups, kept)
	default:
		if len(c.backups) > 0 {
			c.restored(c.backups[c.rng.IntN(len(c.backups))])
			restart()
		}
	}
}

// restored puts back all of the API server. Until they have been told again, nothing is
// promised to those who have something else: what they were given is known to nobody.
func (c *rotating) restored(b rotatingAPI) {
	c.logf("BACKUP is restored: layout %d, %v", b.layout.Generation, b.doc.RotationsUnderWay())
	c.api = b
	c.api.secrets = maps.Clone(b.secrets)
	for i := range c.proxies {
		c.proxies[i].unpromised = true
	}
	for i := range c.nodes {
		mem := c.nodes[i].mem
		c.nodes[i].unpromised = mem.Generation != c.api.layout.Generation || mem.Fallback != c.api.layout.Fallback
	}
	for i := range c.clients {
		c.clients[i].unpromised = c.clients[i].has != c.api.told
	}
}

// settles: in peace all rotations end, and nobody takes what was replaced.
func (c *rotating) settles() {
	for i := range c.nodes {
		c.nodes[i].away, c.nodes[i].excluded = false, false
	}
	c.refuses = false
	for range 12 {
		c.promise()
		c.round()
		c.now = c.now.Add(13 * time.Hour)
	}
	if under := c.api.doc.RotationsUnderWay(); len(under) > 0 {
		c.violate("does not end: %v", under)
	}
	for i, p := range c.proxies {
		if len(p.users) != 2 {
			c.violate("proxy %d takes %d passwords of two users", i, len(p.users))
		}
	}
	for i, n := range c.nodes {
		if n.mem.Fallback.CA != c.api.doc.PKI.CA.Cert {
			c.violate("node %d trusts something else than the CA that signs", i)
		}
	}
}

// rotationRule is something without which somebody is refused. Each is left out alone.
type rotationRule struct {
	name string
	// history is where it is caught, to save the search.
	history uint64
	// of are the Secrets that are replaced; empty: all.
	of []string
	// without takes out of what a pass sees what the rule looks at.
	without func(*View)
	// noWitness hides the Secret of the proxy, and what the Secret of the CA has besides the one
	// that signs, from who takes back.
	noWitness, impatient, storeLast bool
}

func (r rotationRule) leaveOut(v *View) {
	if r.without != nil {
		r.without(v)
	}
}

func (r rotationRule) hide(v *View) {
	if !r.noWitness {
		return
	}
	delete(v.Secrets, cluster.Here(v1alpha1.SecretProxy))
	if ca, others := shownCA(v.Snapshot); others != "" {
		v.Secrets[cluster.Here(v1alpha1.SecretPKI)] = &corev1.Secret{Data: map[string][]byte{keyCACert: []byte(ca.Cert), keyCAKey: []byte(ca.Key)}}
	}
}

// rotates runs histories, and returns the first in which something went wrong.
func rotates(rule rotationRule, from, to uint64) (bad *rotating, seed uint64, ended map[string]int) {
	of := rule.of
	if len(of) == 0 {
		of = []string{v1alpha1.SecretPKI, UserSecretPrefix + UserNode, UserSecretPrefix + UserClient}
	}
	ended = map[string]int{}
	for seed = from; seed <= to; seed++ {
		c := newRotating(seed, rule)
		for range 800 {
			c.step(of)
			if c.promise(); c.problem != "" {
				return c, seed, ended
			}
		}
		if c.settles(); c.problem != "" {
			return c, seed, ended
		}
		for of, n := range c.ended {
			ended[of] += n
		}
	}
	return nil, 0, ended
}

var rotations = flag.Int("rotations", 100, "how many histories of rotations to run")

// TestNoClientIsRefused: who was given a password or a CA that was said to be good is
// served, whatever happens in the middle of a rotation; and what was replaced is refused at
// its end. Without any of the rules it is not so.
func TestNoClientIsRefused(t *testing.T) {
	t.Parallel()
	bad, seed, ended := rotates(rotationRule{}, 1, uint64(*rotations))
	if bad != nil {
		t.Fatalf("history %d: %s\n%s", seed, strings.Join(bad.trail, "\n"), bad.problem)
	}
	for _, of := range []string{v1alpha1.SecretPKI, UserSecretPrefix + UserNode, UserSecretPrefix + UserClient} {
		if ended[of] < *rotations/2 {
			t.Errorf("only %d rotations of %s have ended", ended[of], of)
		}
	}
	ca, node, clients := []string{v1alpha1.SecretPKI}, []string{UserSecretPrefix + UserNode}, []string{UserSecretPrefix + UserClient}
	behind := func(v *View) { v.Identity.Behind = nil }
	told := func(v *View) { v.Identity.Told = true }
	away := func(v *View) {
		v.Observed.Nodes = slices.DeleteFunc(v.Observed.Nodes, func(n switchover.Node) bool { return !n.Ready })
	}
	excluded := func(v *View) {
		v.Observed.Nodes = slices.DeleteFunc(v.Observed.Nodes, func(n switchover.Node) bool { return n.Exclude })
	}
	for _, rule := range []rotationRule{
		{history: 1, name: "proxies know a new password before anybody has it", of: clients, without: func(v *View) {
			if v.Doc.rotation(UserSecretPrefix+UserClient).Phase == Accepting {
				v.Identity.Behind = nil
			}
		}},
		{history: 1, name: "the old CA is trusted until proxies show the new one's certificate", of: ca, without: behind},
		{history: 45, name: "nodes that are away are waited for: password", of: node, without: away},
		{history: 33, name: "nodes that are away are waited for: CA", of: ca, without: away},
		{history: 46, name: "nodes that are left out are waited for: password", of: node, without: excluded},
		{history: 40, name: "nodes that are left out are waited for: CA", of: ca, without: excluded},
		{history: 17, name: "pull secrets have it: password", of: clients, without: told},
		{history: 56, name: "pull secrets have it: CA", of: ca, without: told},
		{history: 1, name: "the old one is good for a day: password", of: clients, impatient: true},
		{history: 30, name: "the old one is good for a day: CA", of: ca, impatient: true},
		{history: 101, name: "it counts from when each proxy knows which is old", of: clients, without: func(v *View) {
			if v.Doc.rotation(UserSecretPrefix+UserClient).Phase == Given {
				v.Identity.Behind = nil
			}
		}},
		{history: 1, name: "uses of an old password count", of: clients, without: func(v *View) { v.Identity.Uses = nil }},
		{history: 9, name: "Secrets say what a state does not know: password", of: node, noWitness: true},
		{history: 3, name: "Secrets say what a state does not know: CA", of: ca, noWitness: true},
		{history: 310, name: "it is stored before anybody is told", storeLast: true},
	} {
		bad, seed, _ := rotates(rule, rule.history, max(rule.history, 1000))
		if bad == nil {
			t.Errorf("%s: not caught", rule.name)
			continue
		}
		t.Logf("%s: history %d: %s", rule.name, seed, bad.problem)
	}
}
