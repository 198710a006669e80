package hostsfile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Write is a file that this containerd reads as these hosts and this server. What
// is ours alone is left out. Without the line [host] before the hosts, older
// versions read these in any order, or ignore the file.
func (d Dialect) Write(server Table, hosts []Table) []byte {
	var b strings.Builder
	if server.URL != "" {
		fmt.Fprintf(&b, "server = %s\n", quote(server.URL))
	}
	server.write(&b, "")
	b.WriteString("\n[host]\n")
	dotted := slices.ContainsFunc(hosts, func(h Table) bool { return !d.Headers(h.URL) })
	for _, h := range hosts {
		key := quoteKey(h.URL)
		if dotted {
			h.writeKeys(&b, key+".")
			continue
		}
		fmt.Fprintf(&b, "\n[host.%s]\n", key)
		h.write(&b, "host."+key+".")
	}
	return []byte(b.String())
}

// write writes a table below its header.
func (t Table) write(b *strings.Builder, prefix string) {
	t.plain(b, "")
	if len(t.Header) > 0 {
		fmt.Fprintf(b, "\n[%sheader]\n", prefix)
		t.headers(b, "")
	}
}

// writeKeys writes a table without a header. One without any key would not be
// there.
func (t Table) writeKeys(b *strings.Builder, prefix string) {
	if len(t.Capabilities) == 0 {
		t.Capabilities = []string{"pull", "resolve", "push"} // all, as without them
	}
	t.plain(b, prefix)
	t.headers(b, prefix+"header.")
}

func (t Table) plain(b *strings.Builder, prefix string) {
	if len(t.Capabilities) > 0 {
		fmt.Fprintf(b, "%scapabilities = %s\n", prefix, list(t.Capabilities))
	}
	if len(t.CA) > 0 {
		fmt.Fprintf(b, "%sca = %s\n", prefix, oneOrList(t.CA))
	}
	if len(t.Client) > 0 {
		pairs := make([]string, len(t.Client))
		for i, pair := range t.Client {
			pairs[i] = oneOrList(pair)
		}
		fmt.Fprintf(b, "%sclient = [%s]\n", prefix, strings.Join(pairs, ", "))
	}
	if t.SkipVerify != nil {
		fmt.Fprintf(b, "%sskip_verify = %t\n", prefix, *t.SkipVerify)
	}
	if t.OverridePath {
		fmt.Fprintf(b, "%soverride_path = true\n", prefix)
	}
	if t.DialTimeout != "" {
		fmt.Fprintf(b, "%sdial_timeout = %s\n", prefix, quote(t.DialTimeout))
	}
}

func (t Table) headers(b *strings.Builder, prefix string) {
	for _, name := range slices.Sorted(maps.Keys(t.Header)) {
		key := name
		if !bareKey.MatchString(name) {
			key = quoteKey(name)
		}
		fmt.Fprintf(b, "%s%s = %s\n", prefix, key, oneOrList(t.Header[name]))
	}
}

func oneOrList(values []string) string {
	if len(values) == 1 {
		return quote(values[0])
	}
	return list(values)
}

func list(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quoteKey is a text as a key. containerd 1.x knows no escapes there.
func quoteKey(s string) string {
	if strings.ContainsAny(s, `"\`) && !strings.ContainsFunc(s, func(c rune) bool { return c == '\'' || c < ' ' || c == 0x7f }) {
		return "'" + s + "'"
	}
	return quote(s)
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
