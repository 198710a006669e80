package hostsfile

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// places is where the tables and keys of a file are.
type places struct {
	data   []byte
	tables []header
	lines  map[string]int // of each key, from 1; see at
}

// header is one header of the file, [a.b] or [[a.b]].
type header struct {
	path  []string
	array bool
	start int  // of its line
	end   int  // one past the end of its line
	pairs bool // keys follow before the next header
}

// locate records where each header and each key is, up to the first thing that is
// no TOML.
func locate(data []byte) *places {
	d := &places{data: data, lines: map[string]int{}}
	var p unstable.Parser
	p.Reset(data)
	var prefix []string
	seen := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		path, offset := keyOf(e)
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			t := header{path: path, array: e.Kind == unstable.ArrayTable}
			t.start = bytes.LastIndexByte(data[:offset], '\n') + 1
			t.end = len(data)
			if i := bytes.IndexByte(data[offset:], '\n'); i >= 0 {
				t.end = offset + i + 1
			}
			d.tables = append(d.tables, t)
			prefix = path
			if t.array {
				id := at(path...)
				prefix = append(slices.Clone(path), strconv.Itoa(seen[id]))
				seen[id]++
			}
			d.mark(prefix, offset)
			d.mark(path, offset)
		case unstable.KeyValue:
			if len(d.tables) > 0 {
				d.tables[len(d.tables)-1].pairs = true
			}
			d.mark(append(slices.Clone(prefix), path...), offset)
		default:
		}
	}
	return d
}

// mark records the first line of a key, and of the tables that it is in.
func (d *places) mark(path []string, offset int) {
	line := 1 + bytes.Count(d.data[:offset], []byte("\n"))
	for i := range path {
		if id := at(path[:i+1]...); d.lines[id] == 0 {
			d.lines[id] = line
		}
	}
}

// line is that of a key, or of the innermost table around it that is known.
func (d *places) line(path ...string) int {
	for i := len(path); i > 0; i-- {
		if n := d.lines[at(path[:i]...)]; n > 0 {
			return n
		}
	}
	return 0
}

func at(path ...string) string { return strings.Join(path, "\x00") }

// keyOf is the path of a header or of a key, and where it begins.
func keyOf(e *unstable.Node) (path []string, offset int) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if path == nil {
			offset = int(n.Raw.Offset)
		}
		path = append(path, string(n.Data))
	}
	return path, offset
}

// hosts are the names of [host."…"] in the order of containerd 2, which takes a
// host for another one if something else stood in between, and sees none without
// a header, nor one without a name at the beginning.
func (d *places) hosts() []string {
	var order []string
	last := ""
	for _, t := range d.tables {
		if t.array || len(t.path) < 2 || t.path[0] != "host" || t.path[1] == last {
			continue
		}
		last = t.path[1]
		order = append(order, last)
	}
	return order
}

// InsertionPoint is where a new [host."…"] comes before all others: after the line
// [host] if that is the first of them, else before the first. It is false if hosts
// are written in another way before.
func (f *File) InsertionPoint() (int, bool) {
	d := f.places
	for i, t := range d.tables {
		if t.path[0] != "host" {
			continue
		}
		place := t.end
		if len(t.path) > 1 || t.array || t.pairs && f.dialect.old {
			place = t.start
		} else if t.pairs {
			return 0, false
		}
		return place, !d.hostAsKeyBefore(i)
	}
	if f.values["host"] != nil {
		return 0, false // by keys only
	}
	if len(d.tables) > 0 {
		return d.tables[0].start, true
	}
	return len(d.data), true
}

// hostAsKeyBefore reports whether a host is written as a key at the top of the
// file.
func (d *places) hostAsKeyBefore(before int) bool {
	line := d.lines[at("host")]
	return line > 0 && line < 1+bytes.Count(d.data[:d.tables[before].start], []byte("\n"))
}
