package usermirror_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	agentURL = "https://127.0.0.1:5001"
	token    = "0123456789abcdef0123456789abcdef"
	source   = "/etc/containerd/registry.d"
	certsD   = "/etc/containerd/certs.d"
)

// seedFile is the example of the documentation with its placeholders filled in.
const seedFile = `[host]
  [host."https://registry.deckhouse.ru"]
    capabilities = ["pull", "resolve"]
    skip_verify = true
    ca = ["/path/to/ca.crt"]
    [host."https://registry.deckhouse.ru".auth]
      username = "username"
      password = "pass#w\"ord"
      # If providing auth string:
      auth = "dXNlcm5hbWU6cGFzcyN3Im9yZA=="
`

// machine is a root directory with users' files, which are old enough to be
// nobody's work of this moment.
type machine struct {
	t    testing.TB
	root string
	ca   string
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, root: t.TempDir(), ca: ca.Cert}
	m.put("/path/to/ca.crt", ca.Cert)
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) put(name, text string) {
	m.t.Helper()
	m.putMode(name, text, 0o644)
}

func (m *machine) putMode(name, text string, mode os.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.path(name), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(m.path(name), mode); err != nil {
		m.t.Fatal(err)
	}
	m.age(name)
}

// rewrite is what a script does: it keeps the file and its mode.
func (m *machine) rewrite(name, text string) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.age(name)
}

func (m *machine) age(name string) {
	m.t.Helper()
	past := time.Now().Add(-time.Minute)
	if err := os.Chtimes(m.path(name), past, past); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

func (m *machine) mode(name string) os.FileMode {
	m.t.Helper()
	info, err := os.Stat(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return info.Mode().Perm()
}

// files are all files of a directory with what is in them.
func (m *machine) files(dir string) map[string]string {
	m.t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(m.path(dir), func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		out[strings.TrimPrefix(name, m.root)] = m.read(strings.TrimPrefix(name, m.root)) + m.mode(strings.TrimPrefix(name, m.root)).String()
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *machine) agent() hostsdir.Options {
	return hostsdir.Options{AgentURL: agentURL, Token: token, AgentCA: m.ca}
}

// platform is a layout for a registry whose name may be a user's too.
func platform() layout.Layout {
	u := upstream.Upstream{Host: "registry.deckhouse.io", Path: "deckhouse/ee", Scheme: upstream.HTTPS}
	return layout.Layout{
		Generation: 1, Target: u, Active: u,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u}),
	}
}

func (m *machine) plan(l layout.Layout, effective string) usermirror.Plan {
	return usermirror.NewPlan(usermirror.Node{Root: m.root, Source: source, Effective: effective}, l, m.agent())
}

func (m *machine) apply(p usermirror.Plan) usermirror.Result {
	m.t.Helper()
	res, err := p.Apply()
	if err != nil {
		m.t.Fatal(err)
	}
	if res.Again {
		m.t.Fatal("files of a minute ago are taken for somebody's present work")
	}
	return res
}
