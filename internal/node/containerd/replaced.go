package containerd

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/d8-registry/registry/internal/node/distribution"
)

// replacement is a drop-in of which containerd 1.x takes the table of its CRI
// plugin instead of that of the other files, all of it. NVIDIA's toolkit writes
// such files.
type replacement struct {
	by   configFile
	line int
	lost []string // what other files say and containerd does not do
	path string   // config_path, if that is lost
}

// how is the beginning of a sentence.
func (r replacement) how(version string) string {
	return fmt.Sprintf("%s:%d replaces the whole table of the CRI plugin (containerd %s does not merge it)", r.by.path, r.line, version)
}

// replaced compares what files say of the CRI plugin with what containerd itself
// makes of them.
func (s *survey) replaced() (replacement, bool) {
	by, line, ok := s.decides()
	if !ok || !Older(s.settings.Version, 2, 0) {
		return replacement{}, false
	}
	r := replacement{by: by, line: line}
	var effective struct {
		Plugins map[string]any `toml:"plugins"`
	}
	if err := toml.Unmarshal(s.settings.Raw, &effective); err != nil {
		return replacement{}, false // understand has read it, so this does not happen
	}
	made := map[string]any{}
	leaves("", effective.Plugins[pluginV2], made)
	for _, f := range s.tree.files {
		if !f.loaded || f.path == by.path {
			continue
		}
		said := map[string]any{}
		for _, name := range []string{pluginV1, pluginV2} {
			leaves("", f.plugins[name], said)
		}
		for _, key := range slices.Sorted(maps.Keys(said)) {
			if fmt.Sprint(made[key]) == fmt.Sprint(said[key]) {
				continue
			}
			if short := shortKey(key); !strings.HasPrefix(short, "registry.") || short == "registry.config_path" {
				r.lost = append(r.lost, short) // warnUnused knows the others
			}
			if path, ok := said[key].(string); ok && key == ".registry.config_path" {
				r.path = path
			}
		}
	}
	slices.Sort(r.lost)
	r.lost = slices.Compact(r.lost)
	return r, len(r.lost) > 0
}

// leaves flattens a table.
func leaves(at string, v any, into map[string]any) {
	table, ok := v.(map[string]any)
	if !ok {
		if v != nil {
			into[at] = v
		}
		return
	}
	for key, value := range table {
		leaves(at+"."+key, value, into)
	}
}

// shortKey names what an operator thinks of: a runtime, a registry setting, a key.
func shortKey(key string) string {
	parts := strings.Split(strings.TrimPrefix(key, "."), ".")
	most := 2
	if len(parts) > 2 && parts[0] == "containerd" && parts[1] == "runtimes" {
		most = 3
	}
	return strings.Join(parts[:min(most, len(parts))], ".")
}

// warnReplaced warns about settings that are lost to a drop-in.
func (s *survey) warnReplaced() {
	if r, ok := s.replaced(); ok {
		s.Warnings = append(s.Warnings, fmt.Sprintf("%s, so that this of %s has no effect: %s; repeat it there",
			r.how(s.Version), s.ConfigFile, some(r.lost)))
	}
}

// some are the first of many.
func some(items []string) string {
	const most = 6
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
}

// lacksRuntime is about a default runtime without a table.
func (s *survey) lacksRuntime(name string) Problem {
	table := "containerd.runtimes." + name
	out := Problem{File: s.ConfigFile, Key: "containerd.default_runtime_name", Text: fmt.Sprintf("is %q, but no file has the table %s; add it and restart containerd", name, table)}
	if r, ok := s.replaced(); ok && slices.Contains(r.lost, table) {
		out.File, out.Line, out.Key = r.by.path, r.line, ""
		out.Text = fmt.Sprintf("replaces the whole table of the CRI plugin (containerd %s does not merge it), so that %s of %s, the default runtime, is lost; "+
			"repeat it in that file and restart containerd", s.Version, table, s.ConfigFile)
	}
	return out
}

// warnUnread warns about drop-ins that nobody reads. Deckhouse merges its own.
func (s *survey) warnUnread() {
	if s.Distribution.Name == distribution.Deckhouse {
		return
	}
	for _, directory := range []string{"conf.d", "conf2.d"} {
		for _, path := range s.tree.dropIns(directory) {
			read := slices.ContainsFunc(s.tree.files, func(f configFile) bool { return f.path == path && f.loaded })
			if !read {
				s.Warnings = append(s.Warnings, fmt.Sprintf("%s has no effect: %s does not import it", path, s.ConfigFile))
			}
		}
	}
}
