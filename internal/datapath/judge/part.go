package judge

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Part is which bytes of the whole a body holds.
type Part struct {
	At    int64 // the first one
	End   int64 // one past the last; -1 when unknown
	Total int64 // of the whole; -1 when unknown
}

var (
	contentRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)$`)
	// oneRange is what nearly all clients ask for.
	oneRange = regexp.MustCompile(`^bytes=([0-9]{0,18})-([0-9]{0,18})$`)
)

// PartOf understands 200 and a 206 of one range. ok is false where offsets would be
// those of an encoded form.
func PartOf(resp *http.Response) (part Part, ok bool) {
	switch {
	case encoded(resp):
		return Part{}, false
	case resp.StatusCode == http.StatusOK:
		return Part{End: resp.ContentLength, Total: resp.ContentLength}, true
	case resp.StatusCode == http.StatusPartialContent:
		return rangeOf(resp)
	default:
		return Part{}, false
	}
}

// rangeOf is what a 206 says of itself.
func rangeOf(resp *http.Response) (Part, bool) {
	m := contentRange.FindStringSubmatch(resp.Header.Get("Content-Range"))
	if m == nil {
		return Part{}, false
	}
	first, last, total := number(m[1]), number(m[2]), number(m[3])
	fits := last >= first && (total < 0 || last < total) && (resp.ContentLength < 0 || resp.ContentLength == last+1-first)
	return Part{At: first, End: last + 1, Total: total}, fits
}

// number is -1 for a star and for nothing; any other text of the patterns is one.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// otherPart says why a 206 is not of the range that was asked for. It may end sooner:
// a server is free to send less.
func otherPart(resp *http.Response) string {
	asked := ""
	if resp.Request != nil {
		asked = resp.Request.Header.Get("Range")
	}
	if asked == "" {
		return "answered with a part, and the whole was asked for"
	}
	m := oneRange.FindStringSubmatch(asked)
	if m == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "multipart/byteranges") {
		return "" // of several ranges; the client reads them
	}
	got, ok := rangeOf(resp)
	if !ok {
		return "answered with a part, and does not say which"
	}
	if m == nil {
		return ""
	}
	first, last := number(m[1]), number(m[2])
	if first < 0 && got.Total >= 0 { // the last so many
		first, last = max(got.Total-last, 0), -1
	}
	if first >= 0 && got.At != first || last >= 0 && m[1] != "" && got.End-1 > last {
		return "answered with another part than was asked for"
	}
	return ""
}
