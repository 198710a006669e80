package e2e

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// screen prints what happens, as it happens.
type screen struct {
	w     io.Writer
	began time.Time
}

func (s *screen) line(format string, args ...any) {
	fmt.Fprintf(s.w, format+"\n", args...) //nolint:errcheck // nowhere to tell
}

func (s *screen) title(format string, args ...any) {
	s.line("\n=== %s   [%s since the start]", fmt.Sprintf(format, args...), seconds(time.Since(s.began)))
}

// say prints one thing that happened or was seen.
func (s *screen) say(format string, args ...any) {
	s.line("    %s", strings.ReplaceAll(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n", "\n    "))
}

// output prints what a command printed, as it is but for colours.
func (s *screen) output(text string) {
	for line := range strings.Lines(colours.ReplaceAllString(text, "")) {
		s.line("      | %s", strings.TrimRight(line, "\n"))
	}
}

// table prints rows in columns, the first row as the head.
func (s *screen) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, r := range rows {
		var line strings.Builder
		for i, cell := range r {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-len([]rune(cell))+2))
		}
		s.line("    %s", strings.TrimRight(line.String(), " "))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
