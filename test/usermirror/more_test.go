package usermirror_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestRewriteAndOrder is what else stock containerd does not do: another path,
// another prefix of the API, and the second mirror when the first has it not.
func TestRewriteAndOrder(t *testing.T) {
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			n := newNode(t, v, "registry.d")
			empty := testregistry.New(t, testregistry.Options{})
			full := testregistry.New(t, testregistry.Options{TLS: true, Username: user, Password: password, Bearer: true})
			full.Push(t, "mirror/team/tool", "v1", image(t))
			n.write("registry.d/registry.io_5000_/first.crt", full.CA())
			n.write("registry.d/registry.io_5000_/hosts.toml", fmt.Sprintf(`# no [host] line, and no end of line at the end
[host."http://%s"]
  capabilities = ["pull", "resolve"]
[host."https://%s"]
  ca = "first.crt"
[host."https://%s".auth]
  username = %q
  password = %q
[[host."https://%s".rewrite]]
  regex = "^system/(.*)"
  replace = "mirror/$1"`, empty.Host(), full.Host(), full.Host(), user, password, full.Host()))
			p := n.pass()
			if len(p.Problems) > 0 || len(p.Routes) != 1 || p.Routes[0].Name != "registry.io:5000" {
				t.Errorf("problems %v, routes %v", p.Problems, p.Routes)
			}
			if err := n.pull("registry.io:5000/system/team/tool:v1"); err != nil {
				t.Error(err)
			}
			if asked := empty.Count(func(r testregistry.Request) bool { return strings.Contains(r.Path, "/system/team/tool/") }); asked == 0 {
				t.Error("the first mirror was not asked first")
			}
			for _, r := range []*testregistry.Registry{empty, full} {
				if r.Count(func(q testregistry.Request) bool { return q.Header.Get("X-Registry-Node-Token") != "" }) > 0 {
					t.Error("the node token left the node")
				}
			}
		})
	}
}

// TestElsewhere is a containerd that does not look where users write.
func TestElsewhere(t *testing.T) {
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			n := newNode(t, v, "certs.d")
			r := testregistry.New(t, testregistry.Options{TLS: true, Username: user, Password: password})
			open := testregistry.New(t, testregistry.Options{TLS: true})
			r.Push(t, "a/tool", "v1", image(t))
			r.Push(t, "a/tool", "v2", image(t))
			open.Push(t, "b/tool", "v1", image(t))
			open.Push(t, "b/tool", "v2", image(t))
			n.write("registry.d/registry.io/own.crt", r.CA())
			n.write("registry.d/registry.io/hosts.toml", fmt.Sprintf("[host]\n[host.%q]\nca = \"own.crt\"\n[host.%q.auth]\nusername = %q\npassword = %q\n", "https://"+r.Host(), "https://"+r.Host(), user, password))
			n.write("registry.d/open.io/ca.crt", open.CA())
			n.write("registry.d/open.io/hosts.toml", fmt.Sprintf("[host]\n[host.%q]\nca = [\"ca.crt\"]\n", "https://"+open.Host()))
			n.pass()
			for _, ref := range []string{"registry.io/a/tool:v1", "open.io/b/tool:v1"} {
				if err := n.pull(ref); err != nil {
					t.Errorf("%s: %v", ref, err)
				}
			}
			if err := n.ctr("registry.io/a/tool:v2"); err != nil {
				t.Errorf("by ctr from where the user wrote: %v", err)
			}
			if exists(filepath.Join(n.source, "open.io", "hosts.toml.registry-agent")) || !strings.Contains(n.readFile(n.effective, "open.io/hosts.toml"), open.Host()) {
				t.Error("no entry of ours for a plain mirror")
			}
			// What needs no agent works without it, as it did before.
			n.stop()
			if err := n.pull("open.io/b/tool:v2"); err != nil {
				t.Errorf("agent down: %v", err)
			}
			n.layout.Routes = nil
			n.letGo()
			if entries, err := os.ReadDir(n.effective); err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

// TestAgentDown is a file with credentials that only one of two mirrors needs:
// without the agent containerd uses what it understands of the file.
func TestAgentDown(t *testing.T) {
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			n := newNode(t, v, "registry.d")
			closed := testregistry.New(t, testregistry.Options{TLS: true, Username: user, Password: password})
			open := testregistry.New(t, testregistry.Options{TLS: true})
			open.Push(t, "a/tool", "v1", image(t))
			n.write("ca.crt", closed.CA()+open.CA())
			n.write("registry.d/registry.io/hosts.toml", fmt.Sprintf("[host]\n[host.%q]\nca = \"@/ca.crt\"\n[host.%q.auth]\nusername = %q\npassword = %q\n[host.%q]\nca = \"@/ca.crt\"\n",
				"https://"+closed.Host(), "https://"+closed.Host(), user, password, "https://"+open.Host()))
			n.pass()
			n.stop()
			if err := n.pull("registry.io/a/tool:v1"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestClaimedName is a registry that both the platform and a user name: the
// proof of the platform's name arrives, the user's mirror is asked first, and
// what it does not have comes from the platform's registry.
func TestClaimedName(t *testing.T) {
	for _, v := range containerdtest.Versions() {
		for _, effective := range []string{"registry.d", "certs.d"} {
			t.Run(string(v)+" "+effective, func(t *testing.T) {
				n := newNode(t, v, effective)
				platform := testregistry.New(t, testregistry.Options{TLS: true, Username: user, Password: password})
				mirror := testregistry.New(t, testregistry.Options{})
				platform.Push(t, "deckhouse/ee", "old", image(t))
				mirror.Push(t, "deckhouse/ee", "new", image(t))
				u := platform.Upstream("deckhouse/ee")
				n.layout = layout.Layout{
					Schema: layout.Schema, Generation: 2, Mode: "Unmanaged", Target: u, Active: u,
					Routes: layout.Cross([]layout.Name{layout.NameOf(u)}, append(n.layout.Upstreams(), u)),
				}
				n.republish()
				n.write("registry.d/"+platform.Host()+"/hosts.toml", fmt.Sprintf("[host]\n[host.%q]\n", "http://"+mirror.Host()))
				p := n.pass()
				if len(p.Claims) != 1 || !p.Claims[0].Comes {
					t.Errorf("claims %+v", p.Claims)
				}
				n.prove(layout.NameOf(u))
				for _, tag := range []string{"new", "old"} {
					if err := n.pull(platform.Host() + "/deckhouse/ee:" + tag); err != nil {
						t.Errorf("%s: %v", tag, err)
					}
				}
			})
		}
	}
}

// TestMissingCA shows what a missing file really does, which is why it is named.
func TestMissingCA(t *testing.T) {
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			n := newNode(t, v, "registry.d")
			r := testregistry.New(t, testregistry.Options{})
			img, err := random.Image(100, 1)
			if err != nil {
				t.Fatal(err)
			}
			r.Push(t, "a/tool", "v1", img)
			n.write("registry.d/registry.io/hosts.toml", fmt.Sprintf("[host]\n[host.%q]\n[host.\"https://broken.example.com\"]\nca = \"/nowhere/ca.crt\"\n[host.\"https://broken.example.com\".auth]\nusername = \"u\"\npassword = \"S3CRET\"\n", "http://"+r.Host()))
			p := n.pass()
			if len(p.Problems) != 1 || p.Problems[0].Line != 4 || !strings.Contains(p.Problems[0].Text, "/nowhere/ca.crt") {
				t.Errorf("problems %v", p.Problems)
			}
			if err := n.pull("registry.io/a/tool:v1"); err == nil {
				t.Error("containerd takes no notice of a missing file: say so no longer")
			}
		})
	}
}
