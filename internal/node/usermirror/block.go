package usermirror

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/hostsfile"
)

// The lines around what is ours in a user's file. markUnended is for a file whose
// last line had no end.
const (
	markBegin    = "# registry-agent: begin"
	markUnended  = markBegin + ", after a line without end"
	markEnd      = "# registry-agent: end"
	markNote     = "# This sends containerd to the node's agent first, which knows auth and rewrite. It comes back when it is changed."
	fileBlockCA  = ".registry-agent-ca.crt"
	capabilities = `capabilities = ["pull", "resolve"]`
)

// block are the lines of what is ours, without the marks. Every one of them
// matches ourLine.
func block(agentURL, token string) []string {
	return []string{
		markNote,
		fmt.Sprintf("[host.%q]", agentURL),
		capabilities,
		// Relative, so that it is found wherever the directory is seen.
		fmt.Sprintf("ca = %q", "../"+fileBlockCA),
		fmt.Sprintf("[host.%q.header]", agentURL),
		fmt.Sprintf("%s = %q", hostsdir.TokenHeader, token),
	}
}

var ourLine = regexp.MustCompile(`^(?:# This sends containerd to the node's agent first.*` +
	`|\[host\."https://(?:127\.[0-9.]+|\[::1\]):[0-9]+"(?:\.header)?\]` +
	`|capabilities = \["pull", "resolve"\]` +
	`|ca = "\.\./\.registry-agent-ca\.crt"` +
	`|` + hostsdir.TokenHeader + ` = "[^"]*")$`)

// span is a part of a file.
type span struct{ start, end int }

// blocks finds what is ours in a file. If one of the marks was lost, only lines
// that look like ours are.
func blocks(data []byte) []span {
	lines := linesOf(data)
	text := func(i int) string { return string(bytes.TrimSpace(data[lines[i].start:lines[i].end])) }
	ours := func(i int) bool { return ourLine.MatchString(text(i)) }
	var out []span
	for i := 0; i < len(lines); i++ {
		switch t := text(i); t {
		case markBegin, markUnended:
			last := endOf(len(lines), i, text)
			if last < 0 {
				for last = i; last+1 < len(lines) && ours(last+1); last++ {
				}
			}
			start := lines[i].start
			if t == markUnended && lines[last].end == len(data) && start > 0 && data[start-1] == '\n' {
				start--
			}
			out = append(out, span{start, lines[last].end})
			i = last
		case markEnd: // what it began with is gone
			first := i
			for first > 0 && ours(first-1) && (len(out) == 0 || lines[first-1].start >= out[len(out)-1].end) {
				first--
			}
			out = append(out, span{lines[first].start, lines[i].end})
		}
	}
	return out
}

// endOf is the line of the end mark that belongs to a begin; -1 if there is none.
func endOf(count, begin int, text func(int) string) int {
	for i := begin + 1; i < count; i++ {
		switch text(i) {
		case markEnd:
			return i
		case markBegin, markUnended:
			return -1
		}
	}
	return -1
}

func linesOf(data []byte) []span {
	var out []span
	at := 0
	for line := range bytes.Lines(data) {
		out = append(out, span{at, at + len(line)})
		at += len(line)
	}
	return out
}

// cut is the file without what is ours: every byte that the user wrote.
func cut(data []byte) (rest []byte, found bool) {
	spans := blocks(data)
	at := 0
	for _, s := range spans {
		rest = append(rest, data[at:s.start]...)
		at = s.end
	}
	return append(rest, data[at:]...), len(spans) > 0
}

var (
	errNamed  = errors.New("it names the agent's own address; remove that host, the agent adds itself")
	errInline = errors.New(`hosts stand directly below [host] or before it; expected a header of its own for each, [host."https://…"]`)
	errChange = errors.New("a marked block would change what else it says")
)

// insert puts a block into a file that has none, before every other host. It
// fails rather than change what containerd makes of the rest.
func insert(d hostsfile.Dialect, data []byte, agentURL, token string) ([]byte, error) {
	before, err := d.Read(data)
	if err != nil {
		return nil, err
	}
	if before.Names(agentURL) {
		return nil, errNamed
	}
	place, ok := before.InsertionPoint()
	if !ok {
		return nil, errInline
	}
	end := "\n"
	if bytes.Contains(data, []byte("\r\n")) {
		end = "\r\n"
	}
	first, begin := "", markBegin
	if place > 0 && data[place-1] != '\n' {
		// Exactly one byte, as cut takes one back.
		first, begin = "\n", markUnended
	}
	lines := slices.Concat([]string{begin}, block(agentURL, token), []string{markEnd})
	out := slices.Concat(data[:place], []byte(first+strings.Join(lines, end)+end), data[place:])
	if after, err := d.Read(out); err != nil || !after.IsWith(agentURL, before) {
		return nil, errChange
	}
	if back, _ := cut(out); !bytes.Equal(back, data) {
		return nil, errChange
	}
	return out, nil
}
