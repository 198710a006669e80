package foreign

import (
	"regexp"
	"unicode"
	"unicode/utf8"
)

// Sizes in bytes for what is shown beside other things.
const (
	// Word is for a name: an image, a host, a version, a workload.
	Word = 256
	// Sentence is for what somebody says: ten of them are read at once.
	Sentence = 400
)

// ellipsis ends what was cut.
const ellipsis = "…"

// Line is a text on one line of at most so many bytes. White space of any kind
// becomes one blank. What is not UTF-8 or not printable becomes U+FFFD: control
// characters and with them terminal escapes, and characters without width or that
// change the direction of writing.
func Line(text string, most int) string {
	var b []byte
	blank := false // is due before the next character
	for _, r := range text {
		if unicode.IsSpace(r) {
			blank = len(b) > 0
			continue
		}
		if blank {
			b, blank = append(b, ' '), false
		}
		if b = utf8.AppendRune(b, printable(r)); len(b) > most {
			return cut(b, most)
		}
	}
	return string(b)
}

// localPorts finds our own end of a connection, which is another each time.
var localPorts = regexp.MustCompile(`\S+:\d+->`)

// Stable is the text of an error without our own end of a connection. It is for what
// is written whenever it changes: each try would be a write.
func Stable(text string) string { return localPorts.ReplaceAllString(text, "") }

// Text is as Line, but line feeds, tabs and blanks stay. It is for what we composed
// of several lines, each of which is a Line.
func Text(text string, most int) string {
	var b []byte
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t':
		case unicode.IsSpace(r):
			r = ' '
		default:
			r = printable(r)
		}
		if b = utf8.AppendRune(b, r); len(b) > most {
			return cut(b, most)
		}
	}
	return string(b)
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return utf8.RuneError
}

// cut ends a text that is too long, at the border of a character.
func cut(b []byte, most int) string {
	room := max(most-len(ellipsis), 0)
	for room > 0 && !utf8.RuneStart(b[room]) {
		room--
	}
	for room > 0 && b[room-1] == ' ' {
		room--
	}
	if most < len(ellipsis) {
		return ""
	}
	return string(b[:room]) + ellipsis
}
