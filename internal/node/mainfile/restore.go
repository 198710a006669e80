package mainfile

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// ClearConfigPath is Restore without the original: config_path is removed.
func ClearConfigPath(data []byte, dir string) ([]byte, error) { return Restore(data, nil, dir) }

// Restore takes our edit out, which set config_path to dir: config_path becomes
// what it is in original, or is removed if original has none. Nothing else
// differs from data. If config_path is another directory by now, it is not ours
// any more, and data are returned unchanged.
func Restore(data, original []byte, dir string) ([]byte, error) {
	lead, body := split(data)
	d, err := parse(body)
	if err != nil {
		return nil, err
	}
	_, old := split(original)
	o, err := parse(old)
	if err != nil {
		o = &document{} // it cannot be read, so nothing of it is used
	}
	out := body
	for _, name := range []string{nameV1, nameV2, nameImages} {
		now, err := parse(out)
		if err != nil {
			return nil, err
		}
		if out, err = now.restore(o, name, dir); err != nil {
			return nil, err
		}
	}
	if err := verify(d, out, "", nameV1, nameV2, nameImages); err != nil {
		return nil, err
	}
	return slices.Concat(lead, out), nil
}

// restore takes out the setting of one plugin.
func (d *document) restore(original *document, name, dir string) ([]byte, error) {
	p := d.find(name)
	if p == nil || p.kind != unstable.String || p.prose != dir {
		return d.data, nil
	}
	if o := original.find(name); o != nil {
		if o.kind != unstable.String {
			return nil, &Refusal{Line: p.line, Sentence: fmt.Sprintf("line %d: what config_path was before is not a string; write it back by hand", p.line)}
		}
		return d.replace(p.value, string(original.data[o.value.start:o.value.end])), nil
	}
	if s, ok := d.block(p); ok {
		return d.cut(s), nil
	}
	if p.inline {
		return nil, &Refusal{Line: p.line, Sentence: fmt.Sprintf("line %d: config_path is within an inline table; take it out by hand", p.line)}
	}
	start, stop := d.lineStart(p.start), d.lineEnd(p.end)
	rest := bytes.TrimSpace(d.data[p.end:stop])
	if len(rest) > 0 && string(rest) != mark {
		return slices.Concat(d.data[:p.start], d.data[p.end:]), nil // somebody's comment stays
	}
	return d.cut(span{start, stop}), nil
}

// cut takes lines out. If the last line of the file goes and has no newline, the
// one before it goes too.
func (d *document) cut(s span) []byte {
	if s.end == len(d.data) && s.start > 0 && d.data[s.end-1] != '\n' {
		s.start--
		if s.start > 0 && d.data[s.start-1] == '\r' {
			s.start--
		}
	}
	return slices.Concat(d.data[:s.start], d.data[s.end:])
}

func (d *document) find(name string) *pair {
	path := []string{"plugins", name, "registry", "config_path"}
	i := slices.IndexFunc(d.pairs, func(p pair) bool { return slices.Equal(p.path, path) })
	if i < 0 {
		return nil
	}
	return &d.pairs[i]
}

// ours is a table as we append it, with nothing else in it.
var ours = regexp.MustCompile(`^` + begin + `\r?\n(?:version = [0-9]\r?\n)?\[plugins\.[^\n]*\.registry\]\r?\n  config_path = "[^"\n]*"\r?\n` + end + `(?:\r?\n|$)`)

// block is the table that we appended, around its setting.
func (d *document) block(p *pair) (span, bool) {
	at := bytes.LastIndex(d.data[:p.start], []byte(begin))
	if at < 0 || at != d.lineStart(at) {
		return span{}, false
	}
	found := ours.Find(d.data[at:])
	if found == nil || at+len(found) <= p.end {
		return span{}, false
	}
	// Settings that follow belong to this table, and would move to the one before.
	// Without its version, the rest would be read in another format.
	stop := at + len(found)
	if slices.ContainsFunc(d.pairs, func(q pair) bool { return q.start >= stop && q.table == p.table }) {
		return span{}, false
	}
	outside := func(q pair) bool { return q.start < at || q.start >= stop }
	if bytes.Contains(found, []byte("version = ")) && slices.ContainsFunc(d.pairs, outside) {
		return span{}, false
	}
	return span{at, stop}, true
}
