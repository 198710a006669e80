package foreign_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/d8-registry/registry/internal/foreign"
)

func TestLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text, want string
		most             int
	}{
		{"as it is", "404 Not Found", "404 Not Found", 13},
		{"empty", "", "", 10},
		{"only blanks", " \n\t ", "", 10},
		{"letters of any script", "нет образа 鏡像 é 👍", "нет образа 鏡像 é 👍", 100},
		{"lines become one", "a\n- node: ok\r\n\tb", "a - node: ok b", 100},
		{"line separators", "a\u2028b\u2029c\u0085d\u00a0e", "a b c d e", 100},
		{"terminal escape", "\x1b[2J\x1b[1;31mred", "\ufffd[2J\ufffd[1;31mred", 100},
		{"escape of one byte, C1", "\u009b2J", "\ufffd2J", 100},
		{"title of the terminal", "\x1b]0;owned\a", "\ufffd]0;owned\ufffd", 100},
		{"right to left", "a\u202egpj.exe\u202c\u2066\u2069", "a\ufffdgpj.exe\ufffd\ufffd\ufffd", 100},
		{"without width", "\ufeffa\u200bb\u200d\u200e\u200f\u2060", "\ufffda\ufffdb\ufffd\ufffd\ufffd\ufffd", 100},
		{"tags", "a\U000e0041", "a\ufffd", 100},
		{"not UTF-8", "a\xff\xc3(", "a\ufffd\ufffd(", 100},
		{"a surrogate", "a\xed\xa0\x80", "a\ufffd\ufffd\ufffd", 100},
		{"a megabyte", strings.Repeat("\x1b", 1<<20), "\ufffd…", 7},
		{"cut", "0123456789", "0123…", 7},
		{"cut at a character", "ааааа", "аа…", 8},
		{"cut at a word", "abc def", "abc…", 6},
		{"a blank at the end is not cut", "abc ", "abc", 3},
		{"nothing but the sign", "abcdef", "…", 3},
		{"no room for the sign", "abcdef", "", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := foreign.Line(c.text, c.most); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestTextKeepsItsLines(t *testing.T) {
	t.Parallel()
	const text = "- source: a\n  image: b\n\t...and 2 more\n"
	if got := foreign.Text(text, 100); got != text {
		t.Errorf("%q", got)
	}
	if got, want := foreign.Text("a\r\n\x1b[0m\u2028\u202eb", 100), "a \n\ufffd[0m \ufffdb"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := foreign.Text(text, 14), "- source: a…"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzText(f *testing.F) {
	for _, seed := range []string{"", "a b", "\x1b[2J", "\u202e", "а\xff", " \n\t", strings.Repeat("…", 9)} {
		f.Add(seed, 7)
	}
	f.Fuzz(func(t *testing.T, text string, most int) {
		most = max(most, 0) % 64
		line, whole := foreign.Line(text, most), foreign.Text(text, most)
		for _, c := range []struct{ got, may string }{{line, ""}, {whole, "\n\t"}} {
			if len(c.got) > most || !utf8.ValidString(c.got) {
				t.Errorf("%q is longer than %d bytes or no UTF-8", c.got, most)
			}
			if strings.ContainsFunc(c.got, func(r rune) bool { return !unicode.IsPrint(r) && !strings.ContainsRune(c.may, r) }) {
				t.Errorf("%q is not printable", c.got)
			}
		}
		if foreign.Line(line, most) != line || foreign.Text(whole, most) != whole {
			t.Errorf("another pass changes %q or %q", line, whole)
		}
	})
}

func TestStable(t *testing.T) {
	t.Parallel()
	got := foreign.Stable("read tcp 10.0.0.6:32852->10.112.0.22:5001: connection reset; dial tcp [fd00::1]:9->[fd00::2]:443: refused")
	if want := "read tcp 10.112.0.22:5001: connection reset; dial tcp [fd00::2]:443: refused"; got != want {
		t.Errorf("%q", got)
	}
}
