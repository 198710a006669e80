package hostsdir

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/layout"
)

// UserEndpoint is a host, or the server, of a user's hosts.toml, as containerd
// itself understands it. Names of files are absolute.
type UserEndpoint struct {
	URL          string // empty for a server that is the image's own host
	Capabilities []string
	CA           []string
	Client       [][]string // certificate and key, or a file with both
	SkipVerify   *bool
	OverridePath bool
	DialTimeout  string
	Header       map[string][]string
}

// RenderUser is the directory for a host that a user set up in a directory in
// which containerd does not look. agentFirst puts the agent before what the user
// wrote.
func RenderUser(host string, o Options, agentFirst bool, hosts []UserEndpoint, server UserEndpoint) (Directory, error) {
	if !hostName.MatchString(host) {
		return Directory{}, fmt.Errorf("render host directory: %q is no registry host", host)
	}
	if host == layout.Fixed().Host {
		return Directory{}, fmt.Errorf("render host directory: %s is nobody's but ours", host)
	}
	dir := Directory{Host: host}
	var b strings.Builder
	b.WriteString(marker)
	if server.URL != "" {
		fmt.Fprintf(&b, "server = %s\n", quote(server.URL))
	}
	server.write(&b, "")
	b.WriteString("\n[host]\n")
	if agentFirst {
		agent, err := o.agent()
		if err != nil {
			return Directory{}, fmt.Errorf("render host directory %s: %w", host, err)
		}
		dir.Files = append(dir.Files, File{fileAgentCA, agent.certificates})
		agent.writeTable(&b)
	}
	for _, h := range hosts {
		if agentFirst && h.URL == o.AgentURL {
			continue
		}
		table := "host." + quote(h.URL)
		fmt.Fprintf(&b, "\n[%s]\n", table)
		h.write(&b, table+".")
	}
	dir.Files = append(dir.Files, File{fileHosts, []byte(b.String())})
	return dir, nil
}

func (e UserEndpoint) write(b *strings.Builder, prefix string) {
	if len(e.Capabilities) > 0 {
		fmt.Fprintf(b, "capabilities = %s\n", list(e.Capabilities))
	}
	if len(e.CA) > 0 {
		fmt.Fprintf(b, "ca = %s\n", list(e.CA))
	}
	if len(e.Client) > 0 {
		pairs := make([]string, len(e.Client))
		for i, pair := range e.Client {
			pairs[i] = list(pair)
			if len(pair) == 1 {
				pairs[i] = quote(pair[0])
			}
		}
		fmt.Fprintf(b, "client = [%s]\n", strings.Join(pairs, ", "))
	}
	if e.SkipVerify != nil {
		fmt.Fprintf(b, "skip_verify = %t\n", *e.SkipVerify)
	}
	if e.OverridePath {
		b.WriteString("override_path = true\n")
	}
	if e.DialTimeout != "" {
		fmt.Fprintf(b, "dial_timeout = %s\n", quote(e.DialTimeout))
	}
	if len(e.Header) == 0 {
		return
	}
	fmt.Fprintf(b, "\n[%sheader]\n", prefix)
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		fmt.Fprintf(b, "%s = %s\n", quote(name), list(e.Header[name]))
	}
}

func list(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote is a text as a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
