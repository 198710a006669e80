package proxy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/d8-registry/registry/internal/foreign"
)

// maxErrorBody is more than any registry says about an error, in bytes.
const maxErrorBody = 64 << 10

// mostErrorText is how much of each text in it is relayed, in bytes: containerd
// shows it in Events of Pods.
const mostErrorText = 1 << 10

// unsatisfied is how a 416 says how long the whole is.
var unsatisfied = regexp.MustCompile(`^bytes \*/[0-9]{1,18}$`)

// replaceErrorBody relays an upstream's OCI error with the client's name in
// it. What is no OCI error is replaced by one: it may hold anything.
func replaceErrorBody(resp *http.Response, theirs string, pull Pull) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	_ = resp.Body.Close()
	body := errorBody{}
	if err != nil || json.Unmarshal(data, &body) != nil || len(body.Errors) == 0 {
		body = errorBody{Errors: []errorEntry{{Code: codeOf(resp.StatusCode, pull.Kind), Message: http.StatusText(resp.StatusCode)}}}
	}
	for i := range body.Errors {
		e := &body.Errors[i]
		e.Code = foreign.Line(e.Code, foreign.Word)
		e.Message = rename(foreign.Line(e.Message, mostErrorText), theirs, pull.Repository)
		e.Detail = renameIn(e.Detail, theirs, pull.Repository)
	}
	if resp.StatusCode != http.StatusRequestedRangeNotSatisfiable || !unsatisfied.MatchString(resp.Header.Get("Content-Range")) {
		resp.Header.Del("Content-Range")
	}
	resp.Header.Del("Content-Encoding")
	replaceBody(resp, body.encoded())
	if resp.Request.Method == http.MethodHead {
		resp.Header.Del("Content-Length")
	}
}

// replaceBody makes JSON the body of an answer.
func replaceBody(resp *http.Response, data []byte) {
	resp.Header.Set("Content-Type", "application/json")
	resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
	resp.ContentLength = int64(len(data))
	resp.Body = io.NopCloser(bytes.NewReader(data))
}

// renameIn maps every string in a decoded JSON value.
func renameIn(value any, theirs, ours string) any {
	switch v := value.(type) {
	case string:
		return rename(foreign.Line(v, mostErrorText), theirs, ours)
	case []any:
		for i := range v {
			v[i] = renameIn(v[i], theirs, ours)
		}
	case map[string]any:
		for k := range v {
			v[k] = renameIn(v[k], theirs, ours)
		}
	}
	return value
}

// rename replaces an upstream's name of a repository where it stands as a name: not
// within words, and of one part, which may be a word itself, only with a mark beside it
// that sentences do not have.
func rename(s, theirs, ours string) string {
	if theirs == ours || theirs == "" {
		return s
	}
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, theirs)
		if !found {
			return out.String() + s
		}
		name := theirs
		left, right := lastByte(cmp.Or(before, out.String())), after
		if !goesOn(right) && !inName(left) && left != '.' && (strings.Contains(theirs, "/") || marked(left, right)) {
			name = ours
		}
		out.WriteString(before + name)
		s = after
	}
}

// inName reports whether a byte goes on with a part of a name.
func inName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// goesOn reports whether a text goes on with a name that has begun: a dot may also end a
// sentence.
func goesOn(text string) bool {
	text = strings.TrimLeft(text, ".")
	return text != "" && inName(text[0])
}

// marked reports whether what is between left and right is quoted, a part of a path or a
// reference, or all that there is.
func marked(left byte, right string) bool {
	const quotes = "\"'`/=@<>[]()"
	switch {
	case left == 0 && right == "", left == ':', left != 0 && strings.IndexByte(quotes, left) >= 0:
		return true
	case right == "":
		return false
	}
	return strings.IndexByte(quotes, right[0]) >= 0 || right[0] == ':' && len(right) > 1 && right[1] != ' '
}

func lastByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

func codeOf(status int, kind Kind) string {
	switch {
	case status == http.StatusNotFound && kind == KindBlobs:
		return CodeBlobUnknown
	case status == http.StatusNotFound && kind == KindManifests:
		return CodeManifestUnknown
	case status == http.StatusNotFound:
		return CodeNameUnknown
	default:
		return CodeUnknown
	}
}

// firstError is the first error that an upstream's body names; empty when there is
// none.
func firstError(data []byte) string {
	body := errorBody{}
	if json.Unmarshal(data, &body) != nil || len(body.Errors) == 0 {
		return ""
	}
	return foreign.Line(strings.TrimSuffix(body.Errors[0].Code+": "+body.Errors[0].Message, ": "), foreign.Word)
}

// maxTagsBody is a list of some ten thousand tags, in bytes: it is in memory as
// a whole. Registries with more answer in pages.
const maxTagsBody = 2 << 20

// replaceTagsName puts the client's name into the answer of tags/list, the one
// good answer that carries the repository's.
func replaceTagsName(resp *http.Response, ours string) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxTagsBody+1))
	_ = resp.Body.Close()
	if err != nil {
		return fmt.Errorf("read the tags: %w", err)
	}
	list := map[string]json.RawMessage{}
	if len(data) > maxTagsBody || json.Unmarshal(data, &list) != nil {
		return fmt.Errorf("read the tags: not a JSON object below %d bytes", maxTagsBody)
	}
	// Only "name" and "tags" are specified; anything else may name the upstream.
	answer := struct {
		Name string          `json:"name"`
		Tags json.RawMessage `json:"tags"`
	}{Name: ours, Tags: list["tags"]}
	if data, err = json.Marshal(answer); err != nil {
		return fmt.Errorf("encode the tags: %w", err)
	}
	resp.Header.Del("Etag") // that of other bytes
	replaceBody(resp, data)
	return nil
}
