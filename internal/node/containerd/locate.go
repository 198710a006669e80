package containerd

import (
	"bytes"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// mention is a key of a registry section, and where it is first set.
type mention struct {
	plugin string // as the file calls it
	key    string // mirrors, configs, auths, config_path
	line   int
	value  string // of config_path only
}

// name is the key as an operator would write it.
func (m mention) name() string {
	plugin := m.plugin
	if plugin != pluginV1 {
		plugin = `"` + plugin + `"`
	}
	return "plugins." + plugin + ".registry." + m.key
}

// Names of the plugin that pulls, by format of the file.
const (
	pluginV1 = "cri"
	pluginV2 = "io.containerd.grpc.v1.cri"
	pluginV3 = "io.containerd.cri.v1.images"
)

// outline is what a look at a file's structure finds.
type outline struct {
	mentions []mention
	plugins  map[string]int // tables of the plugin that pulls, and their first line
	disabled int            // the line of disabled_plugins
}

// findSettings finds registry settings in a text that is valid TOML. Empty tables
// of mirrors, configs and auths, which `containerd config default` prints, do not
// count.
func findSettings(data []byte) outline {
	l := settingsFinder{data: data, out: outline{plugins: map[string]int{}}}
	p := unstable.Parser{}
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			keys, line := l.keys(nil, e.Key())
			l.visit(keys, line, nil)
			table = keys
		case unstable.KeyValue:
			l.pair(table, e)
		default:
		}
	}
	return l.out
}

type settingsFinder struct {
	data []byte
	out  outline
}

// keys appends the parts of a dotted key, and returns the line in which it begins.
func (l *settingsFinder) keys(prefix []string, it unstable.Iterator) (keys []string, line int) {
	keys = slices.Clone(prefix)
	for it.Next() {
		n := it.Node()
		if line == 0 {
			line = bytes.Count(l.data[:min(int(n.Raw.Offset), len(l.data))], []byte("\n")) + 1
		}
		keys = append(keys, string(n.Data))
	}
	return keys, line
}

// pair visits `key = value`, and what is in the value if that is an inline
// table.
func (l *settingsFinder) pair(prefix []string, n *unstable.Node) {
	keys, line := l.keys(prefix, n.Key())
	value := n.Value()
	l.visit(keys, line, value)
	if value.Kind != unstable.InlineTable {
		return
	}
	for it := value.Children(); it.Next(); {
		if it.Node().Kind == unstable.KeyValue {
			l.pair(keys, it.Node())
		}
	}
}

func (l *settingsFinder) visit(keys []string, line int, value *unstable.Node) {
	if len(keys) == 1 && keys[0] == "disabled_plugins" && l.out.disabled == 0 {
		l.out.disabled = line
	}
	if len(keys) < 2 || keys[0] != "plugins" || !pulls(keys[1]) {
		return
	}
	if l.out.plugins[keys[1]] == 0 {
		l.out.plugins[keys[1]] = line
	}
	if len(keys) > 3 && keys[2] == "registry" && setting(keys[3], len(keys) > 4) {
		l.mention(mention{plugin: keys[1], key: keys[3], line: line}, value)
	}
}

// mention records where a setting is made first.
func (l *settingsFinder) mention(m mention, value *unstable.Node) {
	if m.key == "config_path" && value != nil && value.Kind == unstable.String {
		m.value = string(value.Data)
	}
	if !slices.ContainsFunc(l.out.mentions, func(o mention) bool { return o.plugin == m.plugin && o.key == m.key }) {
		l.out.mentions = append(l.out.mentions, m)
	}
}

// pulls reports whether a name is one of the plugin that pulls.
func pulls(plugin string) bool { return plugin == pluginV1 || plugin == pluginV2 || plugin == pluginV3 }

// setting reports whether a key of a registry section matters. A key of the old
// format does if there is anything in it.
func setting(key string, inside bool) bool {
	return key == "config_path" || inside && slices.Contains([]string{"mirrors", "configs", "auths"}, key)
}
