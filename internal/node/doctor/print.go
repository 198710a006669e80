package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/d8-registry/registry/internal/foreign"
)

// Colours of a terminal.
const (
	bold   = "\x1b[1m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	cyan   = "\x1b[36m"
	plain  = "\x1b[0m"
)

// mostShown is one line, in bytes. Files of the node have a say in it.
const mostShown = 4 << 10

// printer prints a report for people: a table with colours on a terminal, one fact
// per line without colours in a pipe.
type printer struct {
	to       io.Writer
	terminal bool
}

func (p printer) print(r *Report) error {
	var b strings.Builder
	p.facts(&b, r)
	p.list(&b, "problem", red, r.Problems)
	p.list(&b, "warning", yellow, r.Warnings)
	for _, c := range r.Changes {
		p.line(&b, "would change", cyan, c.File+": "+c.What)
		p.diff(&b, c.Diff)
	}
	p.conclusion(&b, r)
	if _, err := io.WriteString(p.to, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// facts are in columns on a terminal.
func (p printer) facts(b *strings.Builder, r *Report) {
	rows, width := r.rows(), 0
	for _, row := range rows {
		width = max(width, len(row.name))
	}
	for _, row := range rows {
		switch {
		case row.value == "":
		case p.terminal:
			fmt.Fprintf(b, "%s%-*s%s  %s\n", bold, width, row.name, plain, foreign.Line(row.value, mostShown))
		default:
			fmt.Fprintf(b, "%s: %s\n", row.name, foreign.Line(row.value, mostShown))
		}
	}
}

func (p printer) list(b *strings.Builder, label, colour string, sentences []string) {
	for _, s := range sentences {
		p.line(b, label, colour, s)
	}
}

func (p printer) line(b *strings.Builder, label, colour, text string) {
	fmt.Fprintf(b, "%s: %s\n", p.colour(colour, label), foreign.Line(text, mostShown))
}

func (p printer) diff(b *strings.Builder, diff string) {
	for line := range strings.Lines(diff) {
		colour := ""
		switch {
		case strings.HasPrefix(line, "+"):
			colour = green
		case strings.HasPrefix(line, "-"):
			colour = red
		case strings.HasPrefix(line, "@@"):
			colour = cyan
		}
		fmt.Fprintln(b, p.colour(colour, foreign.Text(strings.TrimRight(line, "\n"), mostShown)))
	}
}

func (p printer) conclusion(b *strings.Builder, r *Report) {
	switch {
	case !r.Ready:
		p.line(b, "not ready", red, "what is named above is in the way")
	case r.Restart:
		p.line(b, "ready", green, "containerd will be restarted once, when the controller approves it; containers go on running")
	default:
		p.line(b, "ready", green, "containerd need not be restarted; entries go to "+r.Containerd.Effective)
	}
}

func (p printer) colour(colour, text string) string {
	if !p.terminal || colour == "" {
		return text
	}
	return colour + text + plain
}
