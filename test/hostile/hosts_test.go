package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/hostsfile"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

func containerds() []string { return []string{"1.6.20", "1.7.35", "2.4.2"} }

// TestDowngradeOfOthers breaks HTTPS for a pull of another repository of the
// platform's registry, which is asked by plain HTTP. test/usermirror does the same with
// real containerds.
func TestDowngradeOfOthers(t *testing.T) {
	t.Parallel()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	u := upstream.Upstream{Host: "registry.example.com", Path: "d8", Scheme: upstream.HTTP}
	l := layout.Layout{
		Mode: "Direct", ActiveMode: "Direct", Target: u, Active: u, Fallback: layout.Fallback{Host: "[fd00::10]:5001", CA: ca.Cert},
		Routes: layout.Cross([]layout.Name{layout.NameOf(u)}, []upstream.Upstream{u}),
	}
	for _, v := range containerds() {
		tree, err := hostsdir.Render(l, hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: strings.Repeat("t", 32), AgentCA: ca.Cert, Containerd: v})
		if err != nil {
			t.Fatal(err)
		}
		files := tree[0].Files
		f, err := hostsfile.For(v).Read(files[len(files)-1].Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range append(f.Hosts, f.Server) {
			if strings.HasPrefix(way.URL, "http:") {
				t.Errorf("containerd %s may be led to %s", v, way.URL)
			}
		}
	}
	note(t, network, "breaks HTTPS, so that others' pulls from the registry's host go by the platform's plain HTTP", "no way by HTTP is in containerd's files")
}

// TestOddHostsFile writes files that make containerd 1.x end, and terminal escapes into
// keys and addresses of others.
func TestOddHostsFile(t *testing.T) {
	t.Parallel()
	const escape = `\u001b]0;owned\u0007`
	dir := t.TempDir()
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "k%d = %d\n", i, i)
	}
	for name, text := range map[string]string{
		"ends.io":   "[host]\na = \"x\"\nb = \"y\"\n",
		"twice.io":  "[[host.\"https://a.io\"]]\n[[host.\"https://b.io\"]]\n",
		"escape.io": "[host]\n[host.\"https://a.io/" + escape + "\"]\n\"x" + escape + "\" = \"" + escape + "\"\n",
		"many.io":   "[host]\n[host.\"https://a.io\"]\n" + many.String(),
		"long.io":   "[host]\n[host.\"https://a.io\"]\n\"" + strings.Repeat("k", 100_000) + "\" = 1\n",
	} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range containerds() {
		_, problems := usermirror.Scan(usermirror.Node{Root: "/", Containerd: v}, dir)
		said := fmt.Sprint(problems)
		for _, name := range []string{"ends.io", "twice.io"} {
			ends := slices.ContainsFunc(problems, func(p usermirror.Problem) bool {
				return strings.Contains(p.File, name) && strings.Contains(p.Text, "ends on it when it pulls")
			})
			if ends == strings.HasPrefix(v, "2.") {
				t.Errorf("containerd %s is said to end on %s: %v", v, name, ends)
			}
		}
		if !strings.Contains(said, "ends.io") || !strings.Contains(said, "twice.io") || !strings.Contains(said, "escape.io") || strings.ContainsAny(said, "\x1b\x07") || len(said) > 10_000 {
			t.Errorf("containerd %s: %d bytes: %.3000q", v, len(said), said)
		}
	}
	note(t, nodeOwner, "odd hosts.toml: values that make containerd 1.x end, terminal escapes in keys, 10,000 keys, keys of 100 kB", "named by file and line, printable and short")
}
