package hostsdir

import (
	"fmt"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsfile"
)

// RenderUser is the directory for a host that a user set up in a directory in
// which containerd does not look: hosts and server are what it would read there,
// names of files are absolute. agentFirst puts the agent before what the user wrote.
func RenderUser(host string, o Options, agentFirst bool, hosts []hostsfile.Table, server hostsfile.Table) (Directory, error) {
	if !hostName.MatchString(host) {
		return Directory{}, fmt.Errorf("render host directory: %q is no registry host", host)
	}
	if host == layout.Fixed().Host {
		return Directory{}, fmt.Errorf("render host directory: %s is nobody's but ours", host)
	}
	dir := Directory{Host: host}
	var tables []hostsfile.Table
	if agentFirst {
		agent, err := o.agent()
		if err != nil {
			return Directory{}, fmt.Errorf("render host directory %s: %w", host, err)
		}
		dir.Files = append(dir.Files, File{fileAgentCA, agent.certificates})
		tables = append(tables, agent.Table)
	}
	for _, h := range hosts {
		if !agentFirst || h.URL != o.AgentURL {
			tables = append(tables, h)
		}
	}
	dir.Files = append(dir.Files, File{fileHosts, o.hostsTOML(server, tables)})
	return dir, nil
}
