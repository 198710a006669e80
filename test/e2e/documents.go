package e2e

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed testdata/seeds/*.md
var documentFiles embed.FS

// The two documents.
const (
	docManage = "internal-registry.md"
	docModule = "registry-module.md"
)

// kind is what a block of a document is.
type kind string

const (
	kindFront   kind = "front matter"
	kindHeading kind = "heading"
	kindText    kind = "text"
	kindBullet  kind = "bullet"
	kindStep    kind = "step" // of an ordered list
	kindAlert   kind = "alert"
	kindRow     kind = "row" // of a table, its head included
	kindComment kind = "comment"
	// The others are fences, by the language that is written behind them.
	kindYAML    kind = "yaml"
	kindBash    kind = "bash"
	kindConsole kind = "console"
	kindTOML    kind = "toml"
)

// block is a piece of a document: lines First to Last.
type block struct {
	Doc         string
	First, Last int
	Kind        kind
	// Text is what it says: of a fence its content without the indentation of
	// the list that it is in.
	Text string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.Doc, b.First) }

// fence is true for what has to be done or compared.
func (b block) fence() bool {
	switch b.Kind {
	case kindYAML, kindBash, kindConsole, kindTOML:
		return true
	default:
		return false
	}
}

// readDocument cuts one of the documents into blocks.
func readDocument(name string) ([]block, error) {
	data, err := documentFiles.ReadFile("testdata/seeds/" + name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return cut(name, strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"))
}

// extent is a kind of block that goes from a line that opens it to one that
// closes it, whatever is between.
type extent struct {
	kind        kind
	open, close *regexp.Regexp
}

var fenceOpen = regexp.MustCompile("^( *)```([a-z]+)$")

func extents() []extent {
	return []extent{
		{kindFront, regexp.MustCompile(`^---$`), regexp.MustCompile(`^---$`)},
		{kindAlert, regexp.MustCompile(`^{% alert `), regexp.MustCompile(`{% endalert %}$`)},
		{kindComment, regexp.MustCompile(`^<!--`), regexp.MustCompile(`-->$`)},
		{"fence", fenceOpen, regexp.MustCompile("^ *```$")},
	}
}

// lineKind is a kind of block that its first line tells.
type lineKind struct {
	kind kind
	at   *regexp.Regexp
}

func lineKinds() []lineKind {
	return []lineKind{
		{kindHeading, regexp.MustCompile(`^#+ `)},
		{kindStep, regexp.MustCompile(`^[0-9]+\. `)},
		{kindBullet, regexp.MustCompile(`^- `)},
		{kindRow, regexp.MustCompile(`^\|`)},
	}
}

func cut(doc string, lines []string) ([]block, error) {
	var blocks []block
	for i := 0; i < len(lines); {
		if strings.TrimSpace(lines[i]) == "" {
			i++
			continue
		}
		b, err := blockAt(doc, lines, i)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, b)
		i = b.Last
	}
	return blocks, nil
}

// blockAt is the block that begins with line i, counted from 0.
func blockAt(doc string, lines []string, i int) (block, error) {
	b := block{Doc: doc, First: i + 1}
	for _, x := range extents() {
		if !x.open.MatchString(lines[i]) || x.kind == kindFront && i > 0 {
			continue
		}
		last := i
		for ; last < len(lines); last++ {
			if (last > i || x.kind == kindComment) && x.close.MatchString(lines[last]) {
				b.Kind, b.Last = x.kind, last+1
				b.Text = strings.Join(lines[i:last+1], "\n")
				if m := fenceOpen.FindStringSubmatch(lines[i]); m != nil {
					b.Kind, b.Text = kind(m[2]), dedent(lines[i+1:last], m[1])
				}
				return b, nil
			}
		}
		return b, fmt.Errorf("%s: the %s is not closed", b, x.kind)
	}
	b.Kind, b.Last, b.Text = kindText, i+1, lines[i]
	for _, k := range lineKinds() {
		if k.at.MatchString(lines[i]) {
			b.Kind = k.kind
			return b, nil // each is one line in these documents
		}
	}
	for b.Last < len(lines) && continues(lines[b.Last]) {
		b.Text += "\n" + lines[b.Last]
		b.Last++
	}
	return b, nil
}

// continues is true for a line that belongs to the paragraph above it.
func continues(line string) bool {
	if strings.TrimSpace(line) == "" {
		return false
	}
	for _, x := range extents() {
		if x.open.MatchString(line) {
			return false
		}
	}
	for _, k := range lineKinds() {
		if k.at.MatchString(line) {
			return false
		}
	}
	return true
}

// dedent removes the indentation of a fence, which is that of its list.
func dedent(lines []string, indent string) string {
	var text strings.Builder
	for _, line := range lines {
		text.WriteString(strings.TrimPrefix(line, indent) + "\n")
	}
	return text.String()
}
