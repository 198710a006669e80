package reconfigure

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/d8-registry/registry/internal/node/mainfile"
)

// plugins are the tables that have registry settings in a dump. The one that
// containerd uses is the last: 2.x also keeps the table that it translated.
func plugins() []string {
	return []string{"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"}
}

// compare compares two dumps of containerd's configuration, before and after a
// change: config_path must be as wanted, and nothing else may differ.
func compare(p pathMapping, before, after []byte, path string) error {
	a, err := tree(before)
	if err != nil {
		return err
	}
	b, err := tree(after)
	if err != nil {
		return err
	}
	if path != "" {
		registry := effective(b)
		if got, _ := registry["config_path"].(string); got != path {
			return &Refusal{fmt.Sprintf("config_path in %s would not take effect: containerd's `config dump` says %q; "+
				"look for a file that the main one imports and that has a table of the CRI plugin", p.shown, got)}
		}
		for _, key := range []string{"mirrors", "configs", "auths"} {
			if table, _ := registry[key].(map[string]any); len(table) > 0 {
				return &Refusal{fmt.Sprintf("containerd's configuration has registry.%s, with which its CRI plugin does not load "+
					"once config_path is set; move it to /etc/containerd/registry.d/HOST/hosts.toml", key)}
			}
		}
	}
	dropExpected(a)
	dropExpected(b)
	if key := firstDifference("", a, b); key != "" {
		return &Refusal{fmt.Sprintf("%s: with config_path containerd's `config dump` differs in %s too; write config_path by hand", p.shown, key)}
	}
	return nil
}

// fingerprint is a hash of a dump, without what differs from call to call.
func fingerprint(dump []byte) (string, error) {
	t, err := tree(dump)
	if err != nil {
		return "", err
	}
	delete(t, "imports")
	canonical, err := toml.Marshal(t) // sorted by key
	if err != nil {
		return "", fmt.Errorf("read containerd's `config dump`: %w", err)
	}
	return sum(canonical, true), nil
}

func tree(dump []byte) (map[string]any, error) {
	t := map[string]any{}
	if err := toml.Unmarshal(bytes.TrimSpace(dump), &t); err != nil {
		// The parser's error may quote a password.
		return nil, errors.New("containerd's `config dump` is not valid TOML")
	}
	return t, nil
}

// effective are the registry settings that containerd uses.
func effective(tree map[string]any) map[string]any {
	var out map[string]any
	for _, name := range plugins() {
		if t := sub(tree, "plugins", name, "registry"); t != nil {
			out = t
		}
	}
	return out
}

func sub(tree map[string]any, path ...string) map[string]any {
	for _, name := range path {
		tree, _ = tree[name].(map[string]any)
	}
	return tree
}

// dropExpected removes what may differ: config_path, tables that have nothing
// else, and the list of files, in which the candidate has another name.
func dropExpected(tree map[string]any) {
	delete(tree, "imports")
	for _, name := range plugins() {
		delete(sub(tree, "plugins", name, "registry"), "config_path")
		path := []string{"plugins", name, "registry"}
		for n := len(path) - 1; n >= 0; n-- {
			if table := sub(tree, path[:n+1]...); table != nil && len(table) == 0 {
				delete(sub(tree, path[:n]...), path[n])
			}
		}
	}
}

// firstDifference names the first key in which two trees differ, never its value.
func firstDifference(at string, a, b any) string {
	if mainfile.Same(a, b) {
		return ""
	}
	x, ok := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if !ok || !ok2 {
		return strings.TrimPrefix(at, ".")
	}
	for _, k := range append(slices.Sorted(maps.Keys(x)), slices.Sorted(maps.Keys(y))...) {
		v, ok := x[k]
		w, ok2 := y[k]
		if ok != ok2 {
			return strings.TrimPrefix(at+"."+k, ".")
		}
		if key := firstDifference(at+"."+k, v, w); key != "" {
			return key
		}
	}
	return ""
}

// shortHash is a hash of several parts that fits into a status.
func shortHash(parts ...string) string {
	s := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(s[:8])
}
