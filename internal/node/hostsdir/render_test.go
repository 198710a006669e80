package hostsdir_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/hostsfile"
	"github.com/d8-registry/registry/internal/upstream"
)

var update = flag.Bool("update", false, "rewrite golden files")

const token = "0123456789abcdef0123456789abcdef"

// TestRender reads testdata/*.txtar: a comment that says what the case is
// about, layout.yaml, containerd (a version, or the newest), and the tree or the
// error that it must become. CA-A, CA-B and CA-AGENT stand for certificates of
// testdata/*.crt.
func TestRender(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(ar.Files) == 0 || ar.Files[0].Name != "layout.yaml" {
				t.Fatal("the first file must be layout.yaml")
			}
			var l layout.Layout
			if err := yaml.UnmarshalStrict([]byte(expand(t, string(ar.Files[0].Data))), &l); err != nil {
				t.Fatal(err)
			}
			given, o := ar.Files[:1:1], options(t)
			if len(ar.Files) > 1 && ar.Files[1].Name == "containerd" {
				given, o.Containerd = ar.Files[:2:2], strings.TrimSpace(string(ar.Files[1].Data))
			}
			tree, err := hostsdir.Render(l, o)
			got := &txtar.Archive{Comment: ar.Comment, Files: append(given, golden(t, tree, err)...)}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := txtar.Format(ar); !bytes.Equal(txtar.Format(got), want) {
				t.Errorf("got:\n%s\nwant:\n%s", txtar.Format(got), want)
			}
		})
	}
}

func golden(t *testing.T, tree hostsdir.Tree, err error) []txtar.File {
	t.Helper()
	if err != nil {
		return []txtar.File{{Name: "want/error", Data: []byte(err.Error() + "\n")}}
	}
	var out []txtar.File
	for _, d := range tree {
		for _, f := range d.Files {
			data := string(f.Data)
			for _, name := range []string{"CA-A", "CA-B", "CA-AGENT"} {
				data = strings.ReplaceAll(data, certificate(t, name), name+"\n")
			}
			out = append(out, txtar.File{Name: "want/" + d.Host + "/" + f.Name, Data: []byte(data)})
		}
		if d.Warning != "" {
			out = append(out, txtar.File{Name: "want/" + d.Host + " warning", Data: []byte(d.Warning + "\n")})
		}
	}
	return out
}

func options(t testing.TB) hostsdir.Options {
	return hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: token, AgentCA: certificate(t, "CA-AGENT")}
}

// expand puts certificates where a case names them, as YAML strings.
func expand(t testing.TB, text string) string {
	for _, name := range []string{"CA-AGENT", "CA-A", "CA-B"} {
		text = strings.ReplaceAll(text, " "+name, fmt.Sprintf(" %q", certificate(t, name)))
	}
	return text
}

func certificate(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := options(t)
	for name, change := range map[string]func(*hostsdir.Options){
		"http":             func(o *hostsdir.Options) { o.AgentURL = "http://127.0.0.1:5001" },
		"a path":           func(o *hostsdir.Options) { o.AgentURL = "https://127.0.0.1:5001/x" },
		"a name":           func(o *hostsdir.Options) { o.AgentURL = "https://localhost:5001" },
		"no port":          func(o *hostsdir.Options) { o.AgentURL = "https://127.0.0.1" },
		"user info":        func(o *hostsdir.Options) { o.AgentURL = "https://a@127.0.0.1:5001" },
		"empty token":      func(o *hostsdir.Options) { o.Token = "" },
		"token with quote": func(o *hostsdir.Options) { o.Token = token + `"` },
		"no CA":            func(o *hostsdir.Options) { o.AgentCA = "none" },
		"a key for a CA": func(o *hostsdir.Options) {
			o.AgentCA = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := good
			change(&o)
			if _, err := hostsdir.Render(layout.Layout{}, o); err == nil {
				t.Error("accepted")
			} else if o.Token != "" && strings.Contains(err.Error(), o.Token) {
				t.Errorf("the error names the token: %v", err)
			}
		})
	}
}

// FuzzRender gives Render hosts, credentials and CAs as hostile as they come:
// it refuses them, or every hosts.toml parses to exactly what was meant.
func FuzzRender(f *testing.F) {
	f.Add("registry.example.com", "10.0.0.1:5001", "user", "pass\"word\n", "http")
	f.Add("../../etc", "[::1]:5001", "a:b", "", "https")
	f.Add("a\"]\n[host.\"https://evil", "evil:1", "\x00", "\\", "")
	f.Add("_default", "10.0.0.1:5001\"", "u", "p", "https")
	f.Fuzz(func(t *testing.T, host, second, user, password, scheme string) {
		own := upstream.Upstream{Host: host, Scheme: upstream.Scheme(scheme)}
		l := layout.Layout{
			Target:   own,
			Fallback: layout.Fallback{Host: second, CA: certificate(t, "CA-B"), Credentials: upstream.Credentials{Username: user, Password: password}},
			Routes: []layout.Route{
				{Name: layout.Name{Host: host}, Upstreams: []upstream.Upstream{own}},
				{Name: layout.Fixed(), Upstreams: []upstream.Upstream{own}},
			},
		}
		tree, err := hostsdir.Render(l, options(t))
		if err != nil {
			return
		}
		for _, d := range tree {
			if d.Host != host && !d.Fixed || d.Host != filepath.Base(d.Host) || strings.HasPrefix(d.Host, ".") {
				t.Fatalf("directory %q", d.Host)
			}
			var doc struct {
				Server string         `toml:"server"`
				Host   map[string]any `toml:"host"`
			}
			last := d.Files[len(d.Files)-1]
			if err := toml.Unmarshal(last.Data, &doc); err != nil {
				t.Fatalf("%s: %v\n%s", d.Host, err, last.Data)
			}
			want := map[string]bool{"https://127.0.0.1:5001": true}
			if d.Fixed {
				want["https://"+second] = true
			} else if address, _ := hostsfile.For("").Itself(host); scheme == "http" { // the proxy is not proved
				want[address], want["https://"+second] = true, true
			}
			if len(doc.Host) != len(want) {
				t.Fatalf("hosts %v, want %v", doc.Host, want)
			}
			for h := range doc.Host {
				if !want[h] {
					t.Fatalf("host %q, want one of %v", h, want)
				}
			}
		}
	})
}
