package foreign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/d8-registry/registry/internal/foreign"
)

// What a registry says ends in our logs, and they end in terminals.
func TestLogLinesArePrintable(t *testing.T) {
	t.Parallel()
	const hostile = "a\u009b31m\u202e\x7f\x1b[2J\u2028b"
	const want = "a\ufffd31m\ufffd\ufffd\ufffd[2J b"
	for name, value := range map[string]any{
		"text": hostile, "error": errors.New(hostile), "list": []string{hostile}, "address": &url.URL{Opaque: hostile},
		"huge": hostile + strings.Repeat("\x1b", 1<<20), "group": slog.GroupValue(slog.String("inner", hostile)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			foreign.NewLog(&out, slog.LevelInfo).Error("pull", "value", value, "status", 404)
			line := strings.TrimSuffix(out.String(), "\n")
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) || len(line) > 20<<10 {
				t.Errorf("not printable, or too long: %.200q", line)
			}
			var got struct {
				Value  any
				Status int
			}
			if err := json.Unmarshal(out.Bytes(), &got); err != nil || got.Status != 404 {
				t.Errorf("%v: %s", err, line)
			}
			if text, plain := got.Value.(string); plain && name != "address" && !strings.HasPrefix(strings.Trim(text, "[]"), want) {
				t.Errorf("%q, want %q", text, want)
			}
		})
	}
}
