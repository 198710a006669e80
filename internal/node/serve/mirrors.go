package serve

import (
	"log/slog"
	"net/http"

	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// mirrors are the hosts that users of this node set up with hosts.toml, as node
// saved them. If they cannot be used, the last good ones stay.
type mirrors struct {
	state handoff.StateDir
	table *routes.Table
	log   *slog.Logger
}

// newMirrors starts from what is on disk, so that users are served before the API
// server or the other half is there.
func newMirrors(folder handoff.StateDir, table *routes.Table, log *slog.Logger) *mirrors {
	m := &mirrors{state: folder, table: table, log: log}
	if err := m.load(); err != nil {
		log.Error("users' mirrors are not served", "err", err)
	}
	return m
}

func (m *mirrors) load() error {
	hosts, err := m.state.Mirrors()
	if err != nil {
		return err
	}
	return m.table.SwapUsers(hosts)
}

// reload reads what node has just saved.
func (m *mirrors) reload(w http.ResponseWriter, _ *http.Request) {
	if err := m.load(); err != nil {
		m.log.Warn("users' mirrors stay as they were", "err", err)
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
