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

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/foreign"
)

// mostErrorText is how much of each text in it is relayed, in bytes: containerd
// shows it in Events of Pods.
const mostErrorText = 1 << 10

// unsatisfied is how a 416 says how long the whole is.
var unsatisfied = regexp.MustCompile(`^bytes \*/[0-9]{1,18}$`)

// replaceErrorBody relays an upstream's OCI error with the client's name in
// it. What is no OCI error is replaced by one: it may hold anything.
func replaceErrorBody(resp *http.Response, theirs string, pull oci.Pull) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxError))
	_ = resp.Body.Close()
	body := oci.ErrorBody{}
	if err != nil || json.Unmarshal(data, &body) != nil || len(body.Errors) == 0 {
		body = oci.ErrorBody{Errors: []oci.ErrorEntry{{Code: codeOf(resp.StatusCode, pull.Kind), Message: http.StatusText(resp.StatusCode)}}}
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
	replaceBody(resp, body.Encoded())
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

func codeOf(status int, kind oci.Kind) string {
	switch {
	case status == http.StatusNotFound && kind == oci.KindBlobs:
		return oci.CodeBlobUnknown
	case status == http.StatusNotFound && kind == oci.KindManifests:
		return oci.CodeManifestUnknown
	case status == http.StatusNotFound:
		return oci.CodeNameUnknown
	default:
		return oci.CodeUnknown
	}
}

// replaceTagsName puts the client's name into the answer of tags/list, the one
// good answer that carries the repository's.
func replaceTagsName(resp *http.Response, ours string) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxTags+1))
	_ = resp.Body.Close()
	if err != nil {
		return fmt.Errorf("read the tags: %w", err)
	}
	list := map[string]json.RawMessage{}
	if len(data) > oci.MaxTags || json.Unmarshal(data, &list) != nil {
		return fmt.Errorf("read the tags: not a JSON object below %d bytes", oci.MaxTags)
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
