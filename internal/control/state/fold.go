package state

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

// A CA is in the state many times: with each name and registry of the layout, with
// targets, pull secrets and our own workloads. Schema 2 has each long text that
// repeats once, in a table, and keyRef of "ca" refers to it as "caRef".
//
// The whole document is below one key that schema 1 does not know. A controller of
// schema 1 says that a newer version wrote it; whatever it writes, it keeps that key.
const (
	keyDocument = "document"
	keyTexts    = "texts"
	keyRef      = "Ref"
	// inTexts begins each reference: a field of a newer version is not taken for one.
	inTexts = "texts/"

	// mostPlain is how large a document may be, in bytes of JSON, and still be stored
	// in schema 1, which older versions read: a quarter of a Secret.
	mostPlain = 256 << 10
	// leastText is the shortest text that a reference is worth.
	leastText = 128
)

// fold makes a tree of schema 2.
func fold(tree map[string]any) map[string]any {
	seen := map[string]int{}
	visit(tree, func(in map[string]any, key, text string) {
		if _, taken := in[key+keyRef]; !taken && len(text) >= leastText {
			seen[text]++
		}
	})
	texts := map[string]any{}
	visit(tree, func(in map[string]any, key, text string) {
		if _, taken := in[key+keyRef]; taken || seen[text] < 2 {
			return
		}
		name := upstream.Digest(text)[:32]
		texts[name] = text
		delete(in, key)
		in[key+keyRef] = inTexts + name
	})
	tree["schema"] = 1
	return map[string]any{"schema": switchover.LargeSchema, keyDocument: tree, keyTexts: texts}
}

// unfold makes a tree of schema 1 again.
func unfold(folded map[string]any) (map[string]any, error) {
	tree, ok := folded[keyDocument].(map[string]any)
	if !ok {
		return nil, errors.New("key state has no document")
	}
	texts, _ := folded[keyTexts].(map[string]any) // there may be none
	var wrong error
	visit(tree, func(in map[string]any, key, ref string) {
		plain, isRef := strings.CutSuffix(key, keyRef)
		name, refers := strings.CutPrefix(ref, inTexts)
		if !isRef || !refers {
			return
		}
		text, there := texts[name].(string)
		if !there {
			wrong = errors.New("key state refers to a text that is not there")
			return
		}
		delete(in, key)
		in[plain] = text
	})
	return tree, wrong
}

// visit calls with every text of a tree that is the value of a key. With may change
// the map that it is given.
func visit(v any, with func(in map[string]any, key, text string)) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Collect(maps.Keys(v)) {
			if text, ok := v[key].(string); ok {
				with(v, key, text)
			} else {
				visit(v[key], with)
			}
		}
	case []any:
		for _, item := range v {
			visit(item, with)
		}
	}
}
