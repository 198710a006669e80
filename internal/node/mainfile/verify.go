package mainfile

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// verify reads an edit back: the setting must be dir (if dir is not empty), and
// nothing else may differ.
func verify(before *document, out []byte, dir string, names ...string) error {
	after, err := parse(out)
	if err != nil {
		return fmt.Errorf("read the edit back: %w", err)
	}
	if dir != "" {
		got, _ := lookup(after.tree, []string{"plugins", names[0], "registry", "config_path"})
		if got != dir {
			return &Refusal{Sentence: byHand(names[0], dir)}
		}
	}
	a, b := prune(before, names), prune(after, names)
	if before.empty() || after.empty() {
		// A file that we made has a version, and an empty one has none.
		delete(a, "version")
		delete(b, "version")
	}
	if !Same(a, b) {
		return &Refusal{Sentence: "config_path cannot be changed without touching something else in the file; do it by hand"}
	}
	return nil
}

// prune is the document without config_path, and without tables that have nothing
// else. The tree itself is not changed.
func prune(d *document, names []string) map[string]any {
	tree := d.tree
	for _, name := range names {
		tree = without(tree, "plugins", name, "registry", "config_path")
	}
	return tree
}

func without(tree map[string]any, key string, rest ...string) map[string]any {
	out := maps.Clone(tree)
	v, ok := tree[key]
	if !ok {
		return out
	}
	if len(rest) == 0 {
		delete(out, key)
		return out
	}
	if table, ok := v.(map[string]any); ok {
		if left := without(table, rest[0], rest[1:]...); len(left) > 0 {
			out[key] = left
		} else {
			delete(out, key)
		}
	}
	return out
}

// Same compares values of TOML. It is reflect.DeepEqual where not-a-number is
// itself and times are the same only with the same zone.
func Same(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		return ok && maps.EqualFunc(x, y, Same)
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, Same)
	case float64:
		y, ok := b.(float64)
		return ok && math.Float64bits(x) == math.Float64bits(y)
	case time.Time:
		y, ok := b.(time.Time)
		return ok && x.Format(time.RFC3339Nano) == y.Format(time.RFC3339Nano)
	default:
		return a == b
	}
}
