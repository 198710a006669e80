package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/d8-registry/registry/internal/node/containerd"
)

// Report is what doctor found. Secrets are masked.
type Report struct {
	// Ready says that nothing is in the way of a switch on this node.
	Ready bool `json:"ready"`
	// Preflight and Containerd are as an agent reports them.
	Preflight  string     `json:"preflight"`
	Containerd Containerd `json:"containerd"`
	// Users are the host directories that users wrote.
	Users []User `json:"users"`
	// Problems are in the way, Warnings are not: a sentence each.
	Problems []string `json:"problems"`
	Warnings []string `json:"warnings"`
	// Restart says that containerd would be restarted once, after approval.
	Restart bool `json:"restart"`
	// Changes are what an agent would write, in that order.
	Changes []Change `json:"changes"`
}

// MarshalJSON writes empty lists instead of null.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	p := plain(r)
	p.Users, p.Problems, p.Warnings, p.Changes = list(r.Users), list(r.Problems), list(r.Warnings), list(r.Changes)
	return json.Marshal(p)
}

func list[T any](items []T) []T {
	if items == nil {
		return []T{}
	}
	return items
}

// Containerd is the containerd behind the socket, paths as it sees them.
type Containerd struct {
	Runtime string `json:"runtime"`
	Version string `json:"version"`
	PID     int    `json:"pid,omitempty"`
	Unit    string `json:"unit,omitempty"`
	// RestartRefused is why it cannot be restarted; empty if it can.
	RestartRefused string   `json:"restartRefused,omitempty"`
	ConfigFile     string   `json:"configFile,omitempty"`
	ConfigVersion  int      `json:"configVersion,omitempty"`
	Distribution   string   `json:"distribution,omitempty"`
	ConfigPath     []string `json:"configPath,omitempty"`
	// Effective is the directory in which it looks for hosts first; empty: in
	// none.
	Effective    string `json:"effectiveDirectory,omitempty"`
	Source       string `json:"sourceDirectory"`
	PullPath     string `json:"pullPath,omitempty"`
	SandboxImage string `json:"sandboxImage,omitempty"`
	// Written says when another program writes the main file anew, Registries where
	// that takes mirrors and credentials of registries.
	Written    string `json:"mainFileWritten,omitempty"`
	Registries string `json:"registriesFrom,omitempty"`
	// ChangedSince is a file of the configuration that it has not read yet.
	ChangedSince string `json:"changedSince,omitempty"`
	// Proxy are its variables for HTTP proxies that are set; NoProxy is the value
	// of that one.
	Proxy   []string `json:"proxy,omitempty"`
	NoProxy string   `json:"noProxy,omitempty"`
}

// User is one host directory of a user.
type User struct {
	Host string `json:"host"`
	File string `json:"file"`
	// Mirrors are where it leads, in order.
	Mirrors []string `json:"mirrors,omitempty"`
	// NeedsAgent says that it has auth or rewrite.
	NeedsAgent bool `json:"needsAgent,omitempty"`
}

// Change is one file that an agent would write.
type Change struct {
	File string `json:"file"`
	// What is a sentence without the file's name.
	What string `json:"what"`
	// Diff is unified, without secrets; empty for a file that is all ours.
	Diff string `json:"diff,omitempty"`
}

// row is a line of the table for people.
type row struct{ name, value string }

// rows are what was found, for people.
func (r *Report) rows() []row {
	c := r.Containerd
	version := c.Runtime + " " + c.Version
	if c.PID > 0 {
		version += fmt.Sprintf(", process %d", c.PID)
	}
	file := c.ConfigFile
	switch {
	case file == "":
	case c.ConfigVersion == 0:
		file += " (not there, or not readable)"
	default:
		file += fmt.Sprintf(" (format %d)", c.ConfigVersion)
	}
	out := []row{
		{"runtime", version},
		{"layout", c.Distribution},
		{"service", cmp.Or(c.Unit, "none of systemd")},
		{"restart", cmp.Or(c.RestartRefused, "possible")},
		{"main file", file},
		{"main file is written", c.Written},
		{"registries come from", c.Registries},
		{"not read yet", c.ChangedSince},
		{"config_path", cmp.Or(strings.Join(c.ConfigPath, ":"), "not set")},
		{"config_path goes into", r.table()},
		{"looks for hosts in", cmp.Or(c.Effective, "no directory")},
		{"users write hosts in", c.Source},
		{"pulls by", pullPath(c.PullPath)},
		{"sandbox image", c.SandboxImage},
		{"proxy", proxies(c)},
	}
	for _, u := range r.Users {
		to := cmp.Or(strings.Join(u.Mirrors, ", "), "itself")
		if u.NeedsAgent {
			to += " (auth or rewrite: by the agent)"
		}
		out = append(out, row{"user's " + u.Host, to})
	}
	return out
}

// table is where people write config_path, if they and no agent must.
func (r *Report) table() string {
	if len(r.Containerd.ConfigPath) > 0 || r.Preflight == string(containerd.Ready) {
		return ""
	}
	switch r.Containerd.ConfigVersion {
	case 0:
		return ""
	case 1:
		return "[plugins.cri.registry]"
	case 2:
		return `[plugins."io.containerd.grpc.v1.cri".registry]`
	}
	return `[plugins."io.containerd.cri.v1.images".registry]`
}

func pullPath(p string) string {
	switch p {
	case "local":
		return "the CRI plugin"
	case "transfer":
		return "the transfer service"
	}
	return p
}

func proxies(c Containerd) string {
	if len(c.Proxy) == 0 {
		return "none"
	}
	return strings.Join(c.Proxy, ", ") + "; NO_PROXY=" + c.NoProxy
}
