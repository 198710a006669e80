package usermirror

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// document is a hosts.toml as TOML: its values, and where they are.
type document struct {
	data   []byte
	values map[string]any
	tables []table
	lines  map[string]int // of each key, from 1; see at
}

// table is one header of the file, [a.b] or [[a.b]].
type table struct {
	path  []string
	array bool
	start int  // of its line
	end   int  // one past the end of its line
	pairs bool // keys follow before the next header
}

// syntaxError is a file that is no TOML. The parser's error is not shown: it
// quotes the file.
type syntaxError struct{ line int }

func (e *syntaxError) Error() string { return "it is not TOML" }

// readDocument fails with a *syntaxError.
func readDocument(data []byte) (*document, error) {
	d := &document{data: data, lines: map[string]int{}}
	if err := toml.Unmarshal(data, &d.values); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			line, _ := where.Position()
			return nil, &syntaxError{line: line}
		}
		return nil, &syntaxError{}
	}
	d.scan()
	return d, nil
}

// scan records where each header and each key is.
func (d *document) scan() {
	var p unstable.Parser
	p.Reset(d.data)
	var prefix []string
	seen := map[string]int{}
	for p.NextExpression() {
		e := p.Expression()
		path, offset := keyOf(e)
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			t := table{path: path, array: e.Kind == unstable.ArrayTable}
			t.start = bytes.LastIndexByte(d.data[:offset], '\n') + 1
			t.end = len(d.data)
			if i := bytes.IndexByte(d.data[offset:], '\n'); i >= 0 {
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
}

// mark records the first line of a key, and of the tables that it is in.
func (d *document) mark(path []string, offset int) {
	line := 1 + bytes.Count(d.data[:offset], []byte("\n"))
	for i := range path {
		if id := at(path[:i+1]...); d.lines[id] == 0 {
			d.lines[id] = line
		}
	}
}

func (d *document) line(path ...string) int { return d.lines[at(path...)] }

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

// hosts are the names of [host."…"] in containerd's order: that of the headers.
// containerd 2 does not see a host without a header of its own.
func (d *document) hosts() []string {
	var order []string
	for _, t := range d.tables {
		if t.array || len(t.path) < 2 || t.path[0] != "host" || slices.Contains(order, t.path[1]) {
			continue
		}
		order = append(order, t.path[1])
	}
	return order
}
