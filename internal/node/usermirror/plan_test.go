package usermirror_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/usermirror"
)

const plainFile = "server = \"https://plain.io\"\n[host]\n[host.\"https://m.io\"]\nca = \"own.crt\"\n"

func (m *machine) tree(p usermirror.Plan) hostsdir.Tree {
	m.t.Helper()
	tree, err := hostsdir.Render(platform(), m.agent())
	if err != nil {
		m.t.Fatal(err)
	}
	return p.Tree(tree)
}

func hostsOf(tree hostsdir.Tree) []string {
	var out []string
	for _, d := range tree {
		out = append(out, d.Host)
	}
	return out
}

func routesOf(p usermirror.Plan) []string {
	var out []string
	for _, r := range p.Routes {
		out = append(out, fmt.Sprintf("%s %v", r.Name, r.Mirrors))
	}
	return out
}

// TestFileOfAnother: who owns a file may read it, and so must not get our token
// into it.
func TestFileOfAnother(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("gives a file away, which takes root")
	}
	m := newMachine(t)
	file := source + "/registry.io/hosts.toml"
	m.put(source+"/registry.io/own.crt", m.ca)
	m.put(file, seedFile)
	if err := os.Chown(m.path(file), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	p := m.plan(platform(), source)
	if res, err := p.Apply(); err != nil || len(res.Written) != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Text, "chown root:root "+file) {
		t.Errorf("problems %v", p.Problems)
	}
	if data, err := os.ReadFile(m.path(file)); err != nil || string(data) != seedFile {
		t.Errorf("%v: %s", err, data)
	}
	// The same of root gets the block; given away later, it goes again.
	if err := os.Chown(m.path(file), 0, 0); err != nil {
		t.Fatal(err)
	}
	p = m.plan(platform(), source)
	if res, err := p.Apply(); err != nil || len(res.Written) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if err := os.Chown(m.path(file), 12345, 12345); err != nil {
		t.Fatal(err)
	}
	p = m.plan(platform(), source)
	if res, err := p.Apply(); err != nil || len(res.Restored) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestWhoseHostItIs is every way in which a user and the platform meet.
func TestWhoseHostItIs(t *testing.T) {
	t.Parallel()
	const platformHost, fixed = "registry.deckhouse.io", "registry.d8-system.svc:5001"
	for name, c := range map[string]struct {
		files             map[string]string
		link              bool
		effective         string
		tree, routes      []string
		written, problems int
		claim             string // "", "comes" or "stays away"
	}{
		"nobody else": {
			nil, false, source, []string{fixed, platformHost}, nil, 0, 0, "",
		},
		"another host with auth": {
			map[string]string{source + "/registry.io/hosts.toml": seedFile}, false, source,
			[]string{fixed, platformHost}, []string{"registry.io [https://registry.deckhouse.ru/v2]"}, 1, 0, "",
		},
		"another host, nothing for us to do": {
			map[string]string{source + "/plain.io/hosts.toml": plainFile}, false, source,
			[]string{fixed, platformHost}, nil, 0, 0, "",
		},
		"the fixed address": {
			map[string]string{source + "/" + fixed + "/hosts.toml": seedFile}, false, source,
			[]string{fixed, platformHost}, nil, 0, 0, "",
		},
		"the platform's registry, plain": {
			map[string]string{source + "/" + platformHost + "/hosts.toml": plainFile}, false, source,
			[]string{fixed}, []string{platformHost + " [https://m.io/v2]"}, 1, 0, "comes",
		},
		"the platform's registry, unreadable": {
			map[string]string{source + "/" + platformHost + "/hosts.toml": "["}, false, source,
			[]string{fixed}, nil, 0, 1, "stays away",
		},
		"the platform's registry, a link": {
			map[string]string{source + "/" + platformHost + "/hosts.toml": seedFile}, true, source,
			[]string{fixed}, nil, 0, 1, "stays away",
		},
		"certificates only": {
			map[string]string{source + "/" + platformHost + "/ca.crt": "x"}, false, source,
			[]string{fixed, platformHost}, nil, 0, 0, "",
		},
		"containerd looks elsewhere": {
			map[string]string{source + "/registry.io/hosts.toml": seedFile, source + "/plain.io/hosts.toml": plainFile}, false, certsD,
			[]string{"plain.io", fixed, platformHost, "registry.io"}, []string{"registry.io [https://registry.deckhouse.ru/v2]"}, 1, 0, "",
		},
		"the platform's registry, where containerd does not look": {
			map[string]string{source + "/" + platformHost + "/hosts.toml": plainFile}, false, certsD,
			[]string{fixed, platformHost}, []string{platformHost + " [https://m.io/v2]"}, 1, 0, "comes",
		},
		"unreadable where containerd does not look": {
			map[string]string{source + "/" + platformHost + "/hosts.toml": "["}, false, certsD,
			[]string{fixed, platformHost}, nil, 0, 1, "",
		},
		"in both directories": {
			map[string]string{source + "/registry.io/hosts.toml": plainFile, certsD + "/registry.io/hosts.toml": seedFile}, false, certsD,
			[]string{fixed, platformHost}, []string{"registry.io [https://registry.deckhouse.ru/v2]"}, 1, 1, "",
		},
		"the platform's registry, where containerd looks": {
			map[string]string{certsD + "/" + platformHost + "/hosts.toml": plainFile}, false, certsD,
			[]string{fixed}, []string{platformHost + " [https://m.io/v2]"}, 1, 0, "comes",
		},
		"containerd looks nowhere": {
			map[string]string{source + "/registry.io/hosts.toml": seedFile}, false, "",
			[]string{fixed, platformHost}, []string{"registry.io [https://registry.deckhouse.ru/v2]"}, 1, 0, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for _, dir := range []string{"/registry.io", "/plain.io", "/registry.deckhouse.io"} {
				m.put(source+dir+"/own.crt", m.ca)
				m.put(certsD+dir+"/own.crt", m.ca)
			}
			for file, text := range c.files {
				m.put(file, text)
				if c.link {
					if err := os.Rename(m.path(file), m.path(file)+".real"); err != nil {
						t.Fatal(err)
					}
					if err := os.Symlink("hosts.toml.real", m.path(file)); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := m.files("/etc")
			p := m.plan(platform(), c.effective)
			if got := hostsOf(m.tree(p)); !slices.Equal(got, c.tree) {
				t.Errorf("our directories %v, want %v", got, c.tree)
			}
			if got := routesOf(p); !slices.Equal(got, c.routes) {
				t.Errorf("routes %v, want %v", got, c.routes)
			}
			if len(p.Problems) != c.problems {
				t.Errorf("problems %v", p.Problems)
			}
			claim := ""
			for _, c := range p.Claims {
				claim = map[bool]string{true: "comes", false: "stays away"}[c.Comes]
				if !strings.Contains(c.Text, c.File) {
					t.Errorf("the claim does not name the file: %s", c.Text)
				}
			}
			if claim != c.claim {
				t.Errorf("claims %+v", p.Claims)
			}
			if res := m.apply(p); len(res.Written) != c.written {
				t.Errorf("wrote %v", res.Written)
			}
			m.apply(m.plan(layout.Layout{}, c.effective))
			if after := m.files("/etc"); fmt.Sprint(before) != fmt.Sprint(after) {
				t.Errorf("not as before:\n%v\n%v", before, after)
			}
		})
	}
}

// TestEntryElsewhere is a user's file as containerd finds it in another
// directory: the same hosts, files by absolute names, and what is broken left
// out.
func TestEntryElsewhere(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put(source+"/registry.io/own.crt", m.ca)
	m.put(seedHosts, `server = "http://last.io"
[host."https://a.io"]
ca = ["own.crt"]
override_path = true
dial_timeout = "5s"
capabilities = ["pull"]
[host."https://a.io".header]
"x-one" = "1"
X-Two = ['a"b\c', "ü"]
[host."https://broken.io"]
ca = "gone.crt"
[host."https://b.io"]
skip_verify = false
[host."https://b.io".auth]
username = "u"
password = "S3CRET"
`)
	p := m.plan(platform(), certsD)
	tree := m.tree(p)
	i := slices.IndexFunc(tree, func(d hostsdir.Directory) bool { return d.Host == "registry.io" })
	if i < 0 {
		t.Fatalf("no entry in %v", hostsOf(tree))
	}
	got := string(tree[i].Files[len(tree[i].Files)-1].Data)
	want := `# Written by registry-agent, which undoes changes made by hand.
server = "http://last.io"

[host]

[host."https://127.0.0.1:5001"]
capabilities = ["pull", "resolve"]
ca = "ca.crt"

[host."https://127.0.0.1:5001".header]
X-Registry-Node-Token = "` + token + `"

[host."https://a.io"]
capabilities = ["pull"]
ca = "/etc/containerd/registry.d/registry.io/own.crt"
override_path = true
dial_timeout = "5s"

[host."https://a.io".header]
X-Two = ["a\"b\\c", "ü"]
x-one = "1"

[host."https://b.io"]
skip_verify = false
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}
