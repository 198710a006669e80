package mainfile

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// header is a [table] or [[table]] line.
type header struct {
	path  []string
	array bool
	end   int // offset after the whole line, its newline included
	line  int
}

// pair is one key with its value, on a line of its own or in an inline table.
type pair struct {
	path       []string // the table's own path included
	own        int      // how many parts of path this pair's key has itself
	table      int      // index of the header that it stands under; -1 at the root
	inline     bool     // within an inline table
	kind       unstable.Kind
	start, end int // of key and value
	value      span
	keys       []span // of the parts of the key
	line       int
	prose      string // a string's value
}

type span struct{ start, end int }

// document is a file with the position of everything that matters to us.
type document struct {
	data    []byte
	headers []header
	pairs   []pair
	tree    map[string]any
}

// bom may begin a file: containerd 1.x skips it.
const bom = "\xEF\xBB\xBF"

// parse reads a file. The parser's error may quote a password, so only the
// position is reported.
func parse(data []byte) (*document, error) {
	if len(data) > math.MaxInt32 {
		return nil, errors.New("the file is too large")
	}
	d := &document{data: data, tree: map[string]any{}}
	if err := toml.Unmarshal(data, &d.tree); err != nil {
		var decode *toml.DecodeError
		if errors.As(err, &decode) {
			row, column := decode.Position()
			return nil, &Refusal{Line: row, Sentence: fmt.Sprintf("line %d, column %d: this is not valid TOML; repair it", row, column)}
		}
		return nil, &Refusal{Sentence: "the file is not valid TOML; repair it"}
	}
	p := &unstable.Parser{}
	p.Reset(data)
	table, prefix := -1, []string(nil)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind == unstable.KeyValue {
			d.pair(p, e, prefix, table, false)
			continue
		}
		path, keys := key(e)
		if len(keys) == 0 {
			return nil, errors.New("a table without a name")
		}
		last := keys[len(keys)-1].end
		d.headers = append(d.headers, header{
			path: path, array: e.Kind == unstable.ArrayTable, end: d.lineEnd(last), line: d.lineOf(last),
		})
		table, prefix = len(d.headers)-1, path
	}
	if p.Error() != nil {
		return nil, &Refusal{Sentence: "the file is not valid TOML; repair it"}
	}
	return d, nil
}

// pair records a key and its value, and those in an inline table.
func (d *document) pair(p *unstable.Parser, e *unstable.Node, prefix []string, table int, inline bool) {
	path, keys := key(e)
	value := e.Value()
	start := int(e.Raw.Offset)
	found := pair{
		path: append(slices.Clone(prefix), path...), own: len(path), table: table, inline: inline, kind: value.Kind,
		start: start, end: start + int(e.Raw.Length), keys: keys, line: d.lineOf(start),
	}
	if value.Kind == unstable.String {
		at := int(value.Raw.Offset)
		found.value, found.prose = span{at, at + int(value.Raw.Length)}, string(value.Data)
	}
	d.pairs = append(d.pairs, found)
	if value.Kind != unstable.InlineTable {
		return
	}
	for it := value.Children(); it.Next(); {
		if n := it.Node(); n.Kind == unstable.KeyValue {
			d.pair(p, n, found.path, table, true)
		}
	}
}

func key(e *unstable.Node) (path []string, keys []span) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		path = append(path, string(n.Data))
		keys = append(keys, span{int(n.Raw.Offset), int(n.Raw.Offset + n.Raw.Length)})
	}
	return path, keys
}

// lineOf is the number of the line in which an offset is.
func (d *document) lineOf(offset int) int { return 1 + bytes.Count(d.data[:offset], []byte("\n")) }

// lineStart and lineEnd are the borders of the line around an offset; the end
// is after its newline.
func (d *document) lineStart(offset int) int { return bytes.LastIndexByte(d.data[:offset], '\n') + 1 }

func (d *document) lineEnd(offset int) int {
	if i := bytes.IndexByte(d.data[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(d.data)
}

// newline is how lines end around an offset.
func (d *document) newline(offset int) string {
	end := d.lineEnd(offset)
	if end < 2 || d.data[end-1] != '\n' {
		// The last line has none: as the one before.
		end = bytes.LastIndexByte(d.data, '\n') + 1
	}
	if end >= 2 && d.data[end-2] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// lookup is the table or value under a path.
func lookup(tree any, path []string) (any, bool) {
	for _, name := range path {
		table, ok := tree.(map[string]any)
		if !ok {
			return nil, false
		}
		if tree, ok = table[name]; !ok {
			return nil, false
		}
	}
	return tree, true
}
