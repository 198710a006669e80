package hostsfile

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	old "github.com/pelletier/go-toml"
	"github.com/pelletier/go-toml/v2"
)

const (
	ignores  = "; as it is %s ignores the whole file, without a word, and goes straight to the registry"
	noTOML   = "%s cannot read it as TOML from here on, ignores the whole file without a word, and goes straight to the registry. "
	brackets = "%s cannot read brackets in a header, ignores the whole file without a word, and goes straight to the registry; " +
		`expected below [host], each key in a line of its own: "https://[…]:5000".capabilities = ["pull", "resolve"]`
)

// fields are the keys of a table as the libraries decode them: that is what accepts
// or refuses their types, and a key in capitals.
type fields struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   *bool          `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
}

// Fields is fields with a name that 1.x's library can see.
type Fields = fields

type decoded struct {
	Fields
	Server string            `toml:"server"`
	Host   map[string]fields `toml:"host"`
}

// timeouts are read by some versions only: others do not mind what they are.
type timeouts struct {
	DialTimeout string `toml:"dial_timeout"`
	Host        map[string]struct {
		DialTimeout string `toml:"dial_timeout"`
	} `toml:"host"`
}

// reading is one Read under way.
type reading struct {
	Dialect
	file     *File
	order    []string
	decoded  decoded
	timeouts timeouts
}

// Read is what this containerd makes of a file. It fails with an *Ignored if the
// file is ignored.
func (d Dialect) Read(data []byte) (f *File, err error) {
	text := data
	if d.old && bytes.HasPrefix(data, []byte(byteOrderMark)) { // 1.x reads over it
		text = append([]byte("   "), data[len(byteOrderMark):]...)
	}
	r := &reading{Dialect: d, file: &File{dialect: d, places: locate(text)}}
	defer func() {
		if p := recover(); p != nil { // in a library, and so in containerd
			f, err = nil, &Ignored{Note{Text: r.name + " ends on it when it pulls: it is not the TOML that it expects"}}
		}
	}()
	if len(data) > 0 { // an empty file is none
		library := r.readNew
		if d.old {
			library = r.readOld
		}
		if err := library(data); err != nil {
			return nil, err
		}
	}
	if err := r.tables(); err != nil {
		return nil, err
	}
	r.unknown()
	return r.file, nil
}

// ignored is a file that is ignored because of a key.
func (r *reading) ignored(path []string, want string) error {
	return &Ignored{Note{Path: path, Line: r.file.places.line(path...), Text: want + fmt.Sprintf(ignores, r.name)}}
}

// readNew reads as containerd 2.
func (r *reading) readNew(data []byte) error {
	if err := toml.Unmarshal(data, &r.file.values); err != nil {
		return r.syntax(lineOf(err), noTOML+hint(data, err))
	}
	r.order = r.file.places.hosts()
	err := toml.Unmarshal(data, &r.decoded)
	if err == nil && r.dialTimeout {
		err = toml.Unmarshal(data, &r.timeouts)
	}
	return r.mismatch(err)
}

// lineOf is where the newer library failed. Its error is not shown: it quotes the
// file.
func lineOf(err error) int {
	var where *toml.DecodeError
	if !errors.As(err, &where) {
		return 0
	}
	line, _ := where.Position()
	return line
}

var (
	oldPosition = regexp.MustCompile(`^\((\d+), \d+\)`)
	oldBrackets = regexp.MustCompile(`(?m)^\s*\[\[?[^\]\n]*["'][^"'\n]*\[`)
)

// readOld reads as containerd 1.x.
func (r *reading) readOld(data []byte) error {
	tree, err := old.LoadBytes(data)
	if err != nil {
		data = bytes.TrimPrefix(data, []byte(byteOrderMark)) // which this library reads over
		line := 0
		if m := oldPosition.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
		if lines := bytes.Split(data, []byte("\n")); line > 0 && line <= len(lines) && oldBrackets.Match(lines[line-1]) {
			return r.syntax(line, brackets)
		}
		return r.syntax(line, noTOML+hint(data, err))
	}
	r.file.values = tree.ToMap()
	if err := r.oldOrder(tree); err != nil {
		return err
	}
	return r.mismatch(tree.Unmarshal(&r.decoded))
}

// oldOrder is the order of lines.
func (r *reading) oldOrder(tree *old.Tree) error {
	hosts, ok := tree.Get("host").(*old.Tree)
	if !ok && r.needsHost {
		return &Ignored{Note{Path: []string{"host"}, Line: max(1, r.file.places.line("host")),
			Text: "expected tables of the form [host.\"https://…\"], or at least the line [host]" + fmt.Sprintf(ignores, r.name)}}
	}
	if !ok {
		return nil
	}
	r.order = hosts.Keys()
	slices.Sort(r.order)
	line := map[string]int{}
	for _, name := range r.order {
		table, ok := hosts.GetPath([]string{name}).(*old.Tree)
		if !ok && len(r.order) > 1 {
			path := []string{"host", name}
			return &Ignored{Note{Path: path, Line: r.file.places.line(path...), Text: "expected a table of the form [host.\"https://…\"]; as it is " + r.name + " ends on it when it pulls"}}
		}
		if ok {
			line[name] = table.Position().Line
		}
	}
	slices.SortStableFunc(r.order, func(a, b string) int { return line[a] - line[b] })
	for i, name := range r.order[min(1, len(r.order)):] {
		if line[name] == line[r.order[i]] {
			r.note([]string{"host", name}, r.name+" asks the hosts of one line in any order; expected a header of its own for each, [host.\"https://…\"]")
		}
	}
	return nil
}

const byteOrderMark = "\ufeff"

var twice = regexp.MustCompile(`already|duplicate|redefine|twice`)

// hint is what is probably wrong in a file that is no TOML.
func hint(data []byte, err error) string {
	switch {
	case bytes.HasPrefix(data, []byte(byteOrderMark)) || bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")):
		return "It begins with a byte order mark; expected UTF-8 without one"
	case !utf8.Valid(data):
		return "It is not UTF-8"
	case twice.MatchString(err.Error()):
		return "A key or a table stands there for the second time"
	}
	return "A quote or a backslash in a password needs a backslash before it, or the value stands in 'single quotes'"
}

func (r *reading) syntax(line int, text string) error {
	return &Ignored{Note{Line: line, Text: fmt.Sprintf(text, r.name)}}
}

// note is something that does not have the effect that it seems to have, harmless
// something that has none.
func (r *reading) note(path []string, text string) {
	r.file.Notes = append(r.file.Notes, Note{Path: path, Line: r.file.places.line(path...), Text: text})
}

func (r *reading) harmless(path []string, text string) {
	r.file.Notes = append(r.file.Notes, Note{Path: path, Line: r.file.places.line(path...), Text: text, Harmless: true})
}
