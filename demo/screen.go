package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// screen prints lines: with colours on a terminal, plain in a pipe.
type screen struct {
	mu      sync.Mutex
	w       io.Writer
	colours bool
	start   time.Time
}

func newScreen(f *os.File) *screen {
	return &screen{w: f, start: time.Now(), colours: term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""}
}

const (
	green  = "32"
	red    = "31"
	yellow = "33"
	bold   = "1"
)

func (s *screen) paint(colour, text string) string {
	if !s.colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (s *screen) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.w, format+"\n", args...) //nolint:errcheck // nowhere to tell
}

func (s *screen) title(format string, args ...any) {
	s.line("\n%s", s.paint(bold, fmt.Sprintf(format, args...)))
}

// step prints what happened, with the seconds since a moment.
func (s *screen) step(since time.Time, mark, colour, format string, args ...any) {
	s.line("  %5.1f s  %s %s", time.Since(since).Seconds(), s.paint(colour, mark), fmt.Sprintf(format, args...))
}

func (s *screen) failure(err error) {
	s.line("%s", s.paint(red, "✗ "+err.Error()))
}

// table prints rows in columns, the first row as the head.
func (s *screen) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-len([]rune(cell))+2))
		}
		text := strings.TrimRight(line.String(), " ")
		if n == 0 {
			text = s.paint(bold, text)
		}
		s.line("  %s", text)
	}
}
