package agent

import (
	"log/slog"

	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hosts"
	"github.com/d8-registry/registry/internal/node/nodestore"
)

// memory is what this half must still know after a restart of its own. It is one
// file of the state folder; each part changes what is its own.
type memory struct {
	Main configchange.MainFile `json:"main"`
	hosts.Places
	Reached reached         `json:"reached,omitzero"`
	Store   nodestore.Place `json:"store,omitzero"`

	state handoff.StateDir
	log   *slog.Logger
}

// reached is a layout whose target was reached from this node. It counts for this
// node and this content only: a node that was installed anew has another UID.
type reached struct {
	NodeUID    string `json:"nodeUID"`
	Generation int64  `json:"generation"`
	Version    string `json:"version"`
}

func loadMemory(state handoff.StateDir, log *slog.Logger) *memory {
	m := &memory{state: state, log: log}
	if err := state.Memory(m); err != nil {
		log.Warn("what an earlier agent remembered is lost", "err", err)
	}
	return m
}

func (m *memory) saveMain(f configchange.MainFile) {
	m.Main = f
	m.save()
}

func (m *memory) savePlaces(p hosts.Places) {
	m.Places = p
	m.save()
}

func (m *memory) saveReached(r reached) {
	if r == m.Reached || r.NodeUID == "" {
		return
	}
	m.Reached = r
	m.save()
}

func (m *memory) saveStore(p nodestore.Place) {
	m.Store = p
	m.save()
}

// save writes the file. What cannot be written is known until the next restart
// of the agent only.
func (m *memory) save() {
	if err := m.state.SaveMemory(m); err != nil {
		m.log.Warn("what a restart of the agent must not forget is not saved", "err", err)
	}
}
