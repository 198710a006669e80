package state

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
)

// rotating is a cluster in which a password is replaced, again and again, while nodes go
// away and come back, proxies start late and switches come in between.
type rotating struct {
	rng            *rand.Rand
	drop           func(*facts) // leaves a rule out
	r              Rotation
	now, looked    time.Time // looked: by the pass before
	asked, version int       // version is that of what is stored
	accepted       [3]int    // stored: the present one, the next, the one before
	proxies        [2][3]int
	loaded         [2]int
	secret         int // what the pull secrets say
	layout, served int // what the layout says, and its generation
	nodes          [3]rotatingNode
	client         int // the password of an in-cluster client, and when it was read
	read           time.Time
	used           string
	inSwitch       bool
	rotated        int
}

type rotatingNode struct {
	password, generation, reported int
	away                           bool
}

// step lets one thing happen, and says who was refused.
func (c *rotating) step() string {
	n := &c.nodes[c.rng.IntN(len(c.nodes))]
	switch c.rng.IntN(12) {
	case 0, 1, 2:
		c.pass()
	case 3:
		i := c.rng.IntN(len(c.proxies))
		c.proxies[i], c.loaded[i] = c.accepted, c.version
	case 4:
		c.secret = c.accepted[0]
	case 5:
		if c.layout != c.accepted[0] {
			c.layout, c.served = c.accepted[0], c.served+1
		}
	case 6, 7:
		if !n.away {
			n.reported = n.generation
			n.password, n.generation = c.layout, c.served
		}
	case 8:
		n.away = !n.away && c.rng.IntN(3) == 0
	case 9:
		c.client, c.read = c.secret, c.now
	case 10:
		c.now = c.now.Add(time.Duration(c.rng.IntN(13)) * time.Hour)
		if c.rng.IntN(4) == 0 {
			c.asked++
		}
		c.inSwitch = c.rng.IntN(5) == 0
	default:
		return c.pulls()
	}
	return ""
}

// pulls: a node, also one that was away, and a client with what it was given no longer
// than a day ago, are served by each proxy.
func (c *rotating) pulls() string {
	ofNodes := c.r.ofNodes()
	for i, accepts := range c.proxies {
		for j, n := range c.nodes {
			if ofNodes && !n.away && !slices.Contains(accepts[:], n.password) {
				return fmt.Sprintf("proxy %d refuses node %d: %d of %v", i, j, n.password, accepts)
			}
		}
		if !ofNodes && c.now.Sub(c.read) <= 24*time.Hour && !slices.Contains(accepts[:], c.client) {
			return fmt.Sprintf("proxy %d refuses a client: %d of %v", i, c.client, accepts)
		}
	}
	if c.client == c.accepted[2] {
		c.used = c.now.Format(time.RFC3339)
	}
	return ""
}

func (c *rotating) pass() {
	f := facts{now: c.now, passed: c.now.Sub(c.looked), idle: 24 * time.Hour, may: !c.inSwitch, told: c.secret == c.accepted[0], uses: map[string]string{"p": c.used}, asked: fmt.Sprint(c.asked)}
	c.looked = c.now
	for i := range c.proxies {
		if c.loaded[i] != c.version {
			f.behind = append(f.behind, fmt.Sprint("proxy", i))
		}
	}
	if c.layout == c.accepted[0] {
		f.published = int64(c.served)
	}
	f.unreached = func(generation int64) []switchover.Node {
		var all []switchover.Node
		for i, n := range c.nodes {
			name := fmt.Sprint("node", i)
			all = append(all, switchover.Node{Name: name, UID: name, Agent: true, Ready: !n.away, Report: switchover.Report{UID: name, Generation: int64(n.reported)}})
		}
		s := switchover.State{}
		s.Desired.Layout.Generation = int64(c.served)
		return switchover.Unreached(s, all, generation)
	}
	c.drop(&f)
	next, task, _ := c.r.next(f)
	c.r = next
	switch task {
	case nothing:
		return
	case makeNew:
		c.accepted[1] = c.version + 100
	case useNew:
		c.accepted = [3]int{c.accepted[1], 0, c.accepted[0]}
	case dropOld:
		c.accepted[2] = 0
		c.rotated++
	}
	c.version++
}

// rotates runs histories, and returns the first in which somebody was refused.
func rotates(of string, drop func(*facts)) (seed uint64, problem string, rotated int) {
	for seed := uint64(1); seed <= 400; seed++ {
		c := &rotating{rng: rand.New(rand.NewPCG(seed, 1)), drop: drop, r: Rotation{Of: of}, now: noon, looked: noon, asked: 1, version: 1, served: 1}
		c.accepted, c.secret, c.layout, c.client, c.read = [3]int{1}, 1, 1, 1, noon
		for i := range c.proxies {
			c.proxies[i], c.loaded[i] = c.accepted, 1
		}
		for i := range c.nodes {
			c.nodes[i] = rotatingNode{password: 1, generation: 1, reported: 1}
		}
		for range 600 {
			if problem := c.step(); problem != "" {
				return seed, problem, rotated
			}
		}
		rotated += c.rotated
	}
	return 0, "", rotated
}

// TestNoClientIsRefused: who was given a password that was said to be good is served,
// whatever happens in the middle of its rotation. Without any of the rules it is not so.
func TestNoClientIsRefused(t *testing.T) {
	t.Parallel()
	node, client := UserSecretPrefix+UserNode, UserSecretPrefix+UserClient
	for _, of := range []string{node, client} {
		seed, problem, rotated := rotates(of, func(*facts) {})
		if problem != "" || rotated < 400 {
			t.Errorf("%s: history %d: %s; %d rotations", of, seed, problem, rotated)
		}
	}
	for name, rule := range map[string]struct {
		of   string
		drop func(*facts)
	}{
		"proxies know the new one first":     {client, func(f *facts) { f.behind = nil }},
		"nodes that are away are waited for": {node, func(f *facts) { f.unreached = func(int64) []switchover.Node { return nil } }},
		"a layout gives it to nodes":         {node, func(f *facts) { f.published = 1 }},
		"pull secrets have it":               {client, func(f *facts) { f.told = true }},
		"the old one is unused for a day":    {client, func(f *facts) { f.idle = 0 }},
	} {
		seed, problem, _ := rotates(rule.of, rule.drop)
		if problem == "" {
			t.Errorf("%s: not caught", name)
		}
		t.Logf("%s: history %d: %s", name, seed, problem)
	}
}
