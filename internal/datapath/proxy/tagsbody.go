package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

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
