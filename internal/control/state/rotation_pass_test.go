package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// What the controller sees of a simulated cluster, and writes.

// pass is one of the controller's; its writes follow one by one.
func (c *rotating) pass() {
	if c.cached == nil || c.rng.IntN(4) > 0 {
		c.cached = maps.Clone(c.api.secrets)
	}
	v := with(c.api.doc)
	v.Secrets = maps.Clone(c.cached)
	v.Observed.Now, v.Observed.Nodes = c.now, c.look()
	c.rule.hide(v)
	v.TakeBack(c.now)
	c.identity(v)
	doc := v.Doc
	c.advance(&doc, v)
	c.rule.leaveOut(v)
	doc, err := c.store.WithIdentity(doc, v)
	if err != nil {
		panic(err)
	}
	for _, r := range v.Rotated {
		if r.Phase == "" {
			c.ended[r.Of]++
		}
	}
	writes := c.writes(doc)
	store := func() {
		for _, r := range v.Rotated {
			c.logf("controller: %s is %q", r.Of, r.Phase)
		}
		if v.TakenBack {
			c.logf("controller: takes back what Secrets show: password of nodes %.4s", fallbackOf(doc).Credentials.Password)
		}
		c.api.older = append(slices.Clip(c.api.older), c.api.doc)
		c.api.doc = doc
	}
	if c.rule.storeLast {
		c.work = append(writes, store)
		return
	}
	store()
	c.work = writes
}

func (c *rotating) look() []switchover.Node {
	var all []switchover.Node
	for i, n := range c.nodes {
		all = append(all, switchover.Node{
			Name: fmt.Sprint("node", i), UID: fmt.Sprint(n.uid), Agent: true, Ready: !n.away, Exclude: n.excluded, Report: c.api.reports[i],
		})
	}
	return all
}

// identity is what package component and the controller see of the proxies and pull secrets.
func (c *rotating) identity(v *View) {
	wanted := fmt.Sprint(v.Doc.Accepted(), v.Doc.PKI.Leaf.Cert)
	v.Identity = Identity{Uses: map[string]map[string]string{}}
	running := 0
	for i := range c.proxies {
		p := &c.proxies[i]
		p.seen = true
		for name, told := range p.uses {
			if v.Identity.Uses[name] == nil {
				v.Identity.Uses[name] = map[string]string{}
			}
			v.Identity.Uses[name][fmt.Sprint(p.uid)] = told
		}
		if p.leaf == "" {
			continue
		}
		running++
		if c.api.serves[i] != wanted {
			v.Identity.Behind = append(v.Identity.Behind, fmt.Sprint("proxy", i))
		}
	}
	if running == 0 {
		v.Identity.Behind = []string{"none"}
	}
	v.Identity.Told = c.api.told == toldBy(v.Doc)
}

func fallbackOf(doc Document) layout.Fallback {
	node, _ := doc.User(UserNode)
	return layout.Fallback{Host: "10.96.0.17:5001", CA: doc.PKI.Trusted(), Credentials: node.Credentials}
}

func toldBy(doc Document) layout.Fallback {
	client, _ := doc.User(UserClient)
	return layout.Fallback{CA: doc.PKI.Trusted(), Credentials: client.Credentials}
}

// advance is what package switchover makes of it: a state that is lost or older than what is
// published or reported is rebuilt, one generation above, and the switch begins anew.
func (c *rotating) advance(doc *Document, v *View) {
	newest := max(doc.Generation, c.api.layout.Generation)
	lost := doc.Target.IsZero() || c.api.layout.Generation > doc.Desired.Layout.Generation
	for _, r := range c.api.reports {
		reported := r.Generation
		if r.Ahead > 0 {
			reported = r.Ahead + 1
		}
		newest, lost = max(newest, reported), lost || reported > doc.Desired.Layout.Generation
	}
	if lost {
		c.inSwitch = true
		fallback := c.api.layout.Fallback
		doc.State = rotatingState(newest + 1)
		doc.Desired.Layout.Fallback = fallback
	}
	if want := fallbackOf(v.Doc); want.CA != "" && want.Credentials.Password != "" && doc.Desired.Layout.Fallback != want {
		if !lost {
			doc.Generation++
		}
		doc.Desired.Layout = layout.Layout{Generation: doc.Generation, Fallback: want}
	}
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}
	if c.inSwitch {
		ready.Status = metav1.ConditionFalse
	}
	doc.Conditions = []metav1.Condition{ready}
}

// isKnown reports whether all nodes that are not left out serve what is published.
func (c *rotating) isKnown() bool {
	for i, n := range c.nodes {
		if r := c.api.reports[i]; !n.excluded && (r.UID != fmt.Sprint(n.uid) || r.Generation < c.api.layout.Generation || r.Ahead > 0) {
			return false
		}
	}
	return true
}

// writes are those of a pass, in the order of the real one.
func (c *rotating) writes(doc Document) []func() {
	seen := c.cached
	put := func(name string, data map[string][]byte) func() {
		return func() {
			key := cluster.Here(name)
			have := c.api.secrets[key]
			if have != seen[key] {
				c.work = nil // a conflict
				return
			}
			if have == nil || !cluster.SameData(have.Data, data) {
				secret := cluster.SecretToWrite(have, name, corev1.SecretTypeOpaque)
				secret.Data = data
				c.api.secrets[key] = secret
				c.logf("controller: writes Secret %s %.4s %.4s", name, data[keyPassword], HashOf(string(data[corev1.TLSCertKey])))
			}
		}
	}
	all := []func(){put(v1alpha1.SecretPKI, map[string][]byte{keyCACert: []byte(doc.PKI.Trusted()), keyCAKey: []byte(doc.PKI.CA.Key)})}
	for _, u := range doc.Users {
		all = append(all, put(UserSecretPrefix+u.Username, map[string][]byte{keyPassword: []byte(u.Password)}))
	}
	users, _ := yaml.Marshal(doc.Accepted())
	return append(all,
		func() {
			if !c.refuses {
				c.api.told = toldBy(doc)
			}
		},
		func() {
			if l := doc.Desired.Layout; l.Fallback.CA != "" && l.Generation > c.api.layout.Generation {
				c.api.layout = l
				c.logf("controller: publishes layout %d, password of nodes %.4s, %d CAs", l.Generation, l.Fallback.Credentials.Password, strings.Count(l.Fallback.CA, "BEGIN"))
			}
		},
		put(v1alpha1.SecretProxy, map[string][]byte{v1alpha1.KeyProxyUsers: users, corev1.TLSCertKey: []byte(doc.PKI.Leaf.Cert)}),
	)
}

func (c *rotating) write() {
	write := c.work[0]
	c.work = c.work[1:]
	write()
}
