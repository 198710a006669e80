package usermirror_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// seedFile is the documentation's example, letter by letter, with its
// placeholders filled in.
func seedFile(ca string, auth string) string {
	return `[host]
  [host."https://registry.deckhouse.ru"]
    capabilities = ["pull", "resolve"]
    skip_verify = true
    ca = ["` + ca + `"]
    [host."https://registry.deckhouse.ru".auth]
` + auth
}

const (
	user     = "username"
	password = `p"a$s\w#rd`
)

// TestSeedExample does what the documentation tells a user to do, on every
// containerd, with both ways in which registries ask for credentials.
func TestSeedExample(t *testing.T) {
	to := mirror443(t)
	byName := fmt.Sprintf("      username = %q\n      password = %q\n", user, password)
	byAuth := fmt.Sprintf("      # If providing auth string:\n      auth = %q\n", base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	for _, v := range containerdtest.Versions() {
		t.Run(string(v), func(t *testing.T) {
			n := newNode(t, v, "registry.d")
			for _, bearer := range []bool{false, true} {
				r := testregistry.New(t, testregistry.Options{TLS: true, Username: user, Password: password, Bearer: bearer})
				to.Store(r)
				n.write("ca.crt", r.CA())
				for name, auth := range map[string]string{"username": byName, "auth": byAuth} {
					text := seedFile(filepath.Join(n.cd.Dir, "ca.crt"), auth)
					n.write("registry.d/registry.io/hosts.toml", text)
					checkSeed(t, n, r, fmt.Sprintf("%s-%t", name, bearer), text)
				}
			}
		})
	}
}

func checkSeed(t *testing.T, n *node, r *testregistry.Registry, tag, text string) {
	t.Helper()
	const name = "registry.d/registry.io/hosts.toml"
	ref := func(more string) string { return "registry.io/registry/path:" + tag + more }
	for _, more := range []string{"", "-https", "-http"} {
		r.Push(t, "registry/path", tag+more, image(t))
	}
	if err := n.pull(ref("")); err == nil {
		t.Fatalf("%s: stock containerd pulls without us: this test shows nothing", tag)
	}
	p := n.pass()
	if len(p.Problems) > 0 {
		t.Errorf("%s: %v", tag, p.Problems)
	}
	if err := n.pull(ref("")); err != nil {
		t.Errorf("%s: by CRI: %v", tag, err)
	}
	if err := n.ctr(ref("-https")); err != nil {
		t.Errorf("%s: by ctr: %v", tag, err)
	}
	if err := n.ctr(ref("-http"), "--plain-http"); err != nil {
		t.Errorf("%s: by ctr --plain-http: %v", tag, err)
	}
	// The agent lets go: the user's bytes are back.
	layout := n.layout
	n.layout.Routes = nil
	n.pass()
	n.layout = layout
	got, err := os.ReadFile(filepath.Join(n.cd.Dir, name))
	if err != nil || string(got) != text {
		t.Errorf("%s: the user's file is now\n%s", tag, got)
	}
	left, err := filepath.Glob(filepath.Join(n.source, ".registry*"))
	if err != nil || len(left) > 0 || exists(filepath.Join(n.source, "registry.io", "ca.crt")) {
		t.Errorf("%s: left behind: %v", tag, strings.Join(left, " "))
	}
}
