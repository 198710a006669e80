package containerd

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	old "github.com/containerd/containerd/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
)

// userFiles are what users write, and what they should not.
func userFiles() []string {
	return []string{
		"[host]\n  [host.\"https://registry.deckhouse.ru\"]\n    capabilities = [\"pull\", \"resolve\"]\n    skip_verify = true\n    [host.\"https://registry.deckhouse.ru\".auth]\n      username = \"u\"\n      password = \"p\"\n",
		"server = \"https://registry.io\"\n\n[host.\"http://a:5000\"]\n[host.\"http://a:5000\".header]\nx = [\"1\", \"2\"]\n[host.\"https://b\"]\noverride_path = true\n",
		"server = 'registry.io'",
		"[host]",
		"[auth]\nusername = 'u'\npassword = 'p'\n",
		"skip_verify = true\r\n[host]\r\n[host.'https://b/x/v2']\r\n[host.'https://b/x/v2'.auth]\r\nauth = 'dTpw'\r\n[[host.'https://b/x/v2'.rewrite]]\r\nregex = '^a'\r\nreplace = 'b'\r\n[host.'https://a']\r\n",
		"[header]\nx = 'y'\n[host.'https://a'.header]\nb = 'c'\n[host.'https://a']\n# the end",
		"[host.'https://b'.auth]\nusername='u'\n[host]\n[host.'https://a']\n",
		"[host]\n'https://a' = {skip_verify = true}\n",
		"host.'https://a'.skip_verify = true\n[host.'https://b']\n",
		"[host]\n[host.\"https://127.0.0.1:5001\"]\n",
		"[[host]]\n",
		"[host.\"\"]\n",
		"[host]\na = \"x\"\nb = \"y\"\n",
		"[host]\na = \"x\"\n",
		"[host.\"https://a\"]\ncapabilities = [\n \"pull\", # x\n]\n  [host.\"https://c\"] # y\nclient = [[\"a\", \"b\"]]",
		"a = nan\n[x]\ny = '''\n[host]\n'''\n[host.a]\n",
		"\ufeff[host]\n[host.a]\n",
	}
}

// FuzzUserBlock puts our block into whatever a user wrote. Both generations of
// containerd's own code read the same hosts as before, with the agent before
// them, and the user's bytes come back.
func FuzzUserBlock(f *testing.F) {
	for _, text := range userFiles() {
		f.Add([]byte(text))
	}
	ca, err := os.ReadFile("../../internal/node/hostsdir/testdata/CA-AGENT.crt")
	if err != nil {
		f.Fatal(err)
	}
	o := hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: hostsToken, AgentCA: string(ca)}
	u := upstream.Upstream{Host: "registry.io", Path: "x", Scheme: upstream.HTTPS}
	l := layout.Layout{Routes: layout.Cross([]layout.Name{layout.NameOf(u)}, []upstream.Upstream{u})}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "registry-agent") {
			return // somebody plays us
		}
		dir := t.TempDir()
		name := filepath.Join(dir, "registry.io", "hosts.toml")
		if err := os.Mkdir(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
		past := time.Now().Add(-time.Minute)
		if err := os.Chtimes(name, past, past); err != nil {
			t.Fatal(err)
		}
		views := map[string]func(testing.TB, string) ([]string, error){"2.x": newView, "1.7": oldView}
		before := map[string][]string{}
		for version, view := range views {
			before[version], _ = view(t, dir) // an error now is one later
		}
		res := userApply(t, dir, l, o)
		if len(res.Written) == 0 {
			return // refused
		}
		for version, view := range views {
			after, err := view(t, dir)
			if before[version] == nil {
				continue
			}
			agent := fmt.Sprintf("https://127.0.0.1:5001/v2 3 token=%s tls=true", o.Token)
			if err != nil || !slices.Equal(after, append([]string{agent}, before[version]...)) {
				t.Errorf("containerd %s: %v\nasks  %q\nbefore %q", version, err, after, before[version])
			}
		}
		if again := userApply(t, dir, l, o); again.Changed() {
			t.Errorf("written again: %v", again)
		}
		userApply(t, dir, layout.Layout{}, o)
		if got, err := os.ReadFile(name); err != nil || string(got) != string(text) {
			t.Errorf("%v: the user's bytes are now\n%q\nthey were\n%q", err, got, text)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	})
}

func userApply(t *testing.T, dir string, l layout.Layout, o hostsdir.Options) usermirror.Result {
	t.Helper()
	res, err := usermirror.NewPlan(usermirror.Node{Root: "/", Source: dir, Effective: dir}, l, o).Apply()
	if err != nil || res.Again {
		t.Fatalf("%+v, %v", res, err)
	}
	return res
}

// newView is what containerd 2.x makes of a directory for registry.io; nil for
// a file that it cannot read, or that names files which are not there.
func newView(t testing.TB, dir string) ([]string, error) {
	hosts, err := config.ConfigureHosts(t.Context(), config.HostOptions{HostDir: config.HostDirFromRoot(dir)})("registry.io")
	var out []string
	for _, h := range hosts {
		out = append(out, viewed(h.Scheme+"://"+h.Host+h.Path, int(h.Capabilities)&7, h.Header, h.Client))
	}
	return out, err
}

// oldView is that of containerd 1.7, which ends on some files.
func oldView(t testing.TB, dir string) (out []string, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("containerd ends: %v", p)
		}
	}()
	hosts, err := old.ConfigureHosts(t.Context(), old.HostOptions{HostDir: old.HostDirFromRoot(dir)})("registry.io")
	for _, h := range hosts {
		out = append(out, viewed(h.Scheme+"://"+h.Host+h.Path, int(h.Capabilities)&7, h.Header, h.Client))
	}
	return out, err
}

func viewed(url string, capabilities int, header http.Header, client *http.Client) string {
	out := fmt.Sprintf("%s %d", url, capabilities)
	for _, name := range slices.Sorted(keys(header)) {
		key := name
		if name == hostsdir.TokenHeader {
			key = "token"
		}
		out += fmt.Sprintf(" %s=%s", key, strings.Join(header[name], ","))
	}
	tr, ok := client.Transport.(*http.Transport)
	return out + fmt.Sprintf(" tls=%t", ok && tr.TLSClientConfig != nil && (tr.TLSClientConfig.RootCAs != nil || tr.TLSClientConfig.InsecureSkipVerify))
}

func keys(header http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range header {
			if !yield(name) {
				return
			}
		}
	}
}
