package mainfile_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/d8-registry/registry/internal/node/mainfile"
)

// Any input is refused, or nothing but config_path differs and the way back is
// exact. The comparison here is not the one that the edit checks itself with.
func FuzzSetConfigPath(f *testing.F) {
	for _, c := range set {
		f.Add([]byte(c.in), c.major == 1)
		f.Add([]byte(c.want), c.major == 1)
	}
	for _, s := range []string{
		"[plugins]\ncri.x = 1\n", "plugins.cri = {}\n", "[a]\n[[plugins]]\n", "[plugins.cri]\nregistry.config_path = 'x'\n",
		"x = nan\ny = 1979-05-27T07:32:00Z\nz = 07:32:00\n", "# registry-agent: begin\n", "a='''\n# registry-agent: begin\n'''\n",
		"[plugins.cri.registry]\r\nconfig_path = 'a' # registry-agent\r\n", "[plugins.cri.registry.config_path]\n", "version = 4\n",
		"[plugins.\"cr\\u0069\".registry]\n", "[plugins.cri]\nregistry.a.b = 1\n[x]\n[plugins.cri.registry.c]\n",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, one bool) {
		major := 2
		if one {
			major = 1
		}
		out, err := mainfile.SetConfigPath(bytes.Clone(in), major, dir)
		if err != nil {
			if out != nil {
				t.Fatalf("an edit and a refusal: %v", err)
			}
			return
		}
		before, had := flat(t, in)
		after, has := flat(t, out)
		if !has[dir] {
			t.Fatalf("no config_path in\n%s", out)
		}
		if len(before) == 0 && len(had) == 0 {
			delete(after, "/version") // a file of our own
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%v\nbecame\n%v", before, after)
		}
		back, err := mainfile.Restore(out, in, dir)
		if err != nil || !bytes.Equal(back, in) {
			t.Fatalf("restored %q, %v", back, err)
		}
		if len(had) == 0 {
			if back, err = mainfile.ClearConfigPath(out, dir); err != nil || !bytes.Equal(back, in) {
				t.Fatalf("cleared %q, %v", back, err)
			}
		}
		again, err := mainfile.SetConfigPath(out, major, dir)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("a second edit: %q, %v", again, err)
		}
	})
}

// flat are the leaves of a document as text, without config_path of the CRI
// plugin, which come apart.
func flat(t *testing.T, data []byte) (leaves map[string]string, paths map[string]bool) {
	t.Helper()
	var tree map[string]any
	if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\uFEFF")), &tree); err != nil {
		t.Fatalf("not TOML: %v\n%s", err, data)
	}
	leaves, paths = map[string]string{}, map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch path {
		case "/plugins/cri/registry/config_path", "/plugins/io.containerd.grpc.v1.cri/registry/config_path",
			"/plugins/io.containerd.cri.v1.images/registry/config_path":
			if s, ok := v.(string); ok {
				paths[s] = true
				return
			}
		}
		if table, ok := v.(map[string]any); ok {
			for k, w := range table {
				walk(path+"/"+k, w)
			}
			return
		}
		out, err := toml.Marshal(map[string]any{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		leaves[path] = string(out)
	}
	walk("", tree)
	return leaves, paths
}
