package switchover

import (
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// inside is the registry that may run in the cluster itself: its Pod is on a node, and
// goes only to nodes that are open to pods. The Pod's own image is at the first
// registry, and is pulled as all others are.
const inside = 2

func (s *sim) runsInside(u upstream.Upstream) bool { return s.focus == onInside && u == s.ups[inside] }

// registryStarts lets the registry's Pod start: on its node again, or on another one.
func (s *sim) registryStarts() {
	if s.focus != onInside || s.alive[inside] {
		return
	}
	if s.pod != nil && !s.pod.ready {
		s.pod = nil
	}
	for _, n := range s.nodes {
		if s.pod != nil && s.pod != n || s.pod == nil && (!n.ready || n.tainted || n.fresh) {
			continue
		}
		if name := layout.NameOf(s.ups[0]); !n.image && !s.pulls(n, name, false) {
			continue
		}
		n.image, s.pod, s.alive[inside] = true, n, true
		s.logf("REGISTRY %s starts on %s", s.ups[inside].Host, n.name)
		return
	}
}

// bringsTheImage: when no registry but itself could serve its image, the operator puts
// it on the nodes. Nothing in the cluster can.
func (s *sim) bringsTheImage() {
	if s.alive[inside] || s.entitled&s.aliveBits() != 0 {
		return
	}
	for _, n := range s.nodes {
		n.image = true
	}
}

// registryStops: its node went away, or booted and has perhaps lost the Pod.
func (s *sim) registryStops(on *simNode, evicted bool) {
	if s.focus != onInside || s.pod != on {
		return
	}
	s.alive[inside] = false
	if evicted {
		s.pod = nil
	}
	s.logf("REGISTRY %s stops with %s, evicted: %v", s.ups[inside].Host, on.name, evicted)
}

// powerFails: all nodes boot, and their pods were evicted meanwhile.
func (s *sim) powerFails() {
	s.logf("POWER fails")
	for _, n := range s.nodes {
		n.inFlight = Report{}
		s.boot(n)
		s.registryStops(n, true)
	}
}

// powerFailsInTransition: nodes have the new layout, and none has proved it.
func (s *sim) powerFailsInTransition() {
	s.setSpec(Spec{Mode: Direct, Upstream: s.ups[inside]})
	for range 3 {
		s.passAndWrite()
		s.checks()
	}
	for _, n := range s.nodes {
		s.agentReads(n, s.layout)
	}
	s.powerFails()
}
