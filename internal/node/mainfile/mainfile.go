package mainfile

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Marks of what we put into a file that had no config_path.
const (
	mark  = "# registry-agent"
	begin = "# registry-agent: begin"
	end   = "# registry-agent: end"
)

// Names of the CRI plugin's part that pulls images, by the file's format.
const (
	nameV1     = "cri"
	nameV2     = "io.containerd.grpc.v1.cri"
	nameImages = "io.containerd.cri.v1.images"
)

// Refusal is an edit that cannot be made safely, in a sentence that names the
// line and what to write by hand.
type Refusal struct {
	Line     int // 0 when the whole file is meant
	Sentence string
}

func (r *Refusal) Error() string { return r.Sentence }

// directory is a path that needs no quoting. A colon would make two paths of it.
var directory = regexp.MustCompile(`^(/[A-Za-z0-9][A-Za-z0-9._@+-]*)+$`)

// SetConfigPath returns the main file with registry.config_path of the CRI plugin
// set to dir, for a containerd of that major version (1 or 2). Nothing else in the
// file differs. From a file without settings, or nil data, it makes one with
// containerd's defaults and config_path.
func SetConfigPath(data []byte, major int, dir string) ([]byte, error) {
	if !directory.MatchString(dir) {
		return nil, &Refusal{Sentence: fmt.Sprintf("config_path cannot become %q: only an absolute path of plain characters can", dir)}
	}
	lead, body := split(data)
	d, err := parse(body)
	if err != nil {
		return nil, err
	}
	name, err := d.plugin(major)
	if err != nil {
		return nil, err
	}
	out, had, err := d.set(name, major, dir)
	if err != nil {
		return nil, err
	}
	if err := verify(d, out, dir, name); err != nil {
		return nil, err
	}
	edited := slices.Concat(lead, out)
	// An edit that cannot be taken out exactly is not made.
	back, err := Restore(edited, data, dir)
	if err != nil || !bytes.Equal(back, data) {
		return nil, &Refusal{Sentence: byHand(name, dir)}
	}
	if had || bytes.Equal(edited, data) {
		return edited, nil
	}
	if back, err = ClearConfigPath(edited, dir); err != nil || !bytes.Equal(back, data) {
		return nil, &Refusal{Sentence: byHand(name, dir)}
	}
	return edited, nil
}

func split(data []byte) (lead, body []byte) {
	body = bytes.TrimPrefix(data, []byte(bom))
	return data[:len(data)-len(body)], body
}

func byHand(name, dir string) string {
	return fmt.Sprintf("config_path cannot be added without touching something else; write by hand: [plugins.%q.registry] config_path = %q", name, dir)
}

// plugin is the name of the plugin that has, or should have, the registry
// settings.
func (d *document) plugin(major int) (string, error) {
	version := int64(1) // of a file without version
	if v, ok := d.tree["version"]; ok {
		if version, ok = v.(int64); !ok {
			return "", &Refusal{Sentence: "version is not a number; containerd would not start with this file"}
		}
	}
	switch {
	case major <= 1 && version > 2:
		return "", &Refusal{Sentence: fmt.Sprintf("version = %d is for containerd 2; containerd 1 would not start with this file", version)}
	case d.empty() && major <= 1:
		return nameV2, nil
	case d.empty() || version > 2:
		return nameImages, nil
	}
	name := nameV2
	if version < 2 {
		name = nameV1
	}
	if major <= 1 {
		return name, nil
	}
	// containerd 2 translates the old names, and these win over the new one.
	for _, n := range []string{name, nameV2, nameImages} {
		if _, ok := lookup(d.tree, []string{"plugins", n, "registry"}); ok {
			return n, nil
		}
	}
	return name, nil
}

// empty reports whether the file has no setting.
func (d *document) empty() bool { return len(d.headers)+len(d.pairs) == 0 }

// set makes the edit. had is whether the file had the setting.
func (d *document) set(name string, major int, dir string) (out []byte, had bool, err error) {
	target := []string{"plugins", name, "registry", "config_path"}
	table := target[:3]
	value := `"` + dir + `"`
	var dotted *pair
	for i, p := range d.pairs {
		switch {
		case slices.Equal(p.path, target):
			if p.kind != unstable.String {
				return nil, true, &Refusal{Line: p.line, Sentence: fmt.Sprintf("line %d: config_path is not a string; write by hand: config_path = %s", p.line, value)}
			}
			if p.prose == dir {
				return d.data, true, nil
			}
			return d.replace(p.value, value), true, nil
		case inside(target, p.path) && !p.inline:
			if err := d.closed(p, target, value); err != nil {
				return nil, false, err
			}
		case inside(p.path, table) && len(p.path)-p.own < len(table) && dotted == nil && !p.inline:
			dotted = &d.pairs[i]
		}
	}
	if out, err := d.under(table, "config_path = "+value); out != nil || err != nil {
		return out, false, err
	}
	if dotted != nil {
		// registry is written by dotted keys here: TOML allows no table of that name.
		start := d.lineStart(dotted.start)
		keys := dotted.keys[:dotted.own-(len(dotted.path)-len(table))]
		key := d.data[keys[0].start:keys[len(keys)-1].end]
		return d.insertLine(start, indentOf(d.data[start:dotted.start]), string(key)+".config_path = "+value), false, nil
	}
	return d.appendTable(name, major, value), false, nil
}

// under puts the setting below the table's header; nil if there is none.
func (d *document) under(table []string, setting string) ([]byte, error) {
	for i, h := range d.headers {
		if h.array && (inside(table, h.path) || slices.Equal(table, h.path)) {
			return nil, &Refusal{Line: h.line, Sentence: fmt.Sprintf(
				"line %d: [[%s]] is a list of tables; write it by hand as a table with %s", h.line, strings.Join(h.path, "."), setting)}
		}
		if slices.Equal(h.path, table) {
			return d.insertLine(h.end, d.indentUnder(i), setting), nil
		}
	}
	return nil, nil
}

// closed refuses a value on the way to config_path that is no table, or one that
// takes no further keys.
func (d *document) closed(p pair, target []string, value string) error {
	at := strings.Join(p.path, ".")
	if p.kind != unstable.InlineTable {
		return &Refusal{Line: p.line, Sentence: fmt.Sprintf("line %d: %s is not a table", p.line, at)}
	}
	if slices.ContainsFunc(d.pairs, func(q pair) bool { return q.inline && slices.Equal(q.path, target) }) {
		return nil // there already: only its value is replaced
	}
	rest := strings.Join(target[len(p.path):], ".")
	return &Refusal{Line: p.line, Sentence: fmt.Sprintf(
		"line %d: %s is an inline table, which this agent does not extend; write into its braces by hand: %s = %s", p.line, at, rest, value)}
}

// inside reports whether path is within prefix, and not prefix itself.
func inside(path, prefix []string) bool {
	return len(path) > len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// indentUnder is how settings of a table are indented.
func (d *document) indentUnder(table int) string {
	for _, p := range d.pairs {
		if p.table == table && !p.inline {
			return indentOf(d.data[d.lineStart(p.start):p.start])
		}
	}
	end := d.headers[table].end
	return indentOf(d.data[d.lineStart(end-1):end]) + "  "
}

func indentOf(line []byte) string {
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

func (d *document) replace(s span, value string) []byte {
	return slices.Concat(d.data[:s.start], []byte(value), d.data[s.end:])
}

// insertLine puts a marked line at an offset, which is a line's start or the
// end of a file whose last line has no newline.
func (d *document) insertLine(at int, indent, setting string) []byte {
	nl := d.newline(max(at-1, 0))
	line := indent + setting + " " + mark
	if at > 0 && d.data[at-1] != '\n' {
		return slices.Concat(d.data[:at], []byte(nl+line), d.data[at:])
	}
	return slices.Concat(d.data[:at], []byte(line+nl), d.data[at:])
}

// appendTable adds the table at the end of the file.
func (d *document) appendTable(name string, major int, value string) []byte {
	nl := d.newline(len(d.data))
	lines := []string{begin}
	if d.empty() {
		// Without version containerd reads the file in its oldest format.
		lines = append(lines, fmt.Sprintf("version = %d", min(max(major, 1), 2)+1))
	}
	quoted := `"` + name + `"`
	if name == nameV1 {
		quoted = name
	}
	lines = append(lines, "[plugins."+quoted+".registry]", "  config_path = "+value, end)
	block := strings.Join(lines, nl)
	if len(d.data) > 0 && d.data[len(d.data)-1] != '\n' {
		return slices.Concat(d.data, []byte(nl+block))
	}
	return slices.Concat(d.data, []byte(block+nl))
}

// ConfigPath is the config_path of a main file; empty if it has none or cannot be
// read.
func ConfigPath(data []byte) string {
	_, body := split(data)
	d, err := parse(body)
	if err != nil {
		return ""
	}
	path := ""
	for _, name := range []string{nameV1, nameV2, nameImages} {
		if p := d.find(name); p != nil && p.prose != "" {
			path = p.prose
		}
	}
	return path
}
