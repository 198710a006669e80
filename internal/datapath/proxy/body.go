package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/d8-registry/registry/internal/foreign"
)

// maxErrorBody is more than any registry says about an error, in bytes.
const maxErrorBody = 64 << 10

// mostErrorText is how much of each text in it is relayed, in bytes: containerd
// shows it in Events of Pods.
const mostErrorText = 1 << 10

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
	resp.Header.Del("Content-Range")
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

func rename(s, theirs, ours string) string {
	if theirs == ours {
		return s
	}
	return strings.ReplaceAll(s, theirs, ours)
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
