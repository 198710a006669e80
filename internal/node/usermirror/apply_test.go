package usermirror_test

import (
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
)

const seedHosts = source + "/registry.io/hosts.toml"

func TestBlockComesAndGoes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put(seedHosts, seedFile)
	m.put(source+"/plain.io/hosts.toml", "server = \"https://plain.io\"\n[host.\"https://m.io\"]\n")
	before := m.files("/etc")

	p := m.plan(platform(), source)
	if len(p.Problems) != 0 || len(p.Claims) != 0 {
		t.Fatalf("problems %v, claims %v", p.Problems, p.Claims)
	}
	res := m.apply(p)
	if len(res.Written) != 1 || res.Written[0] != seedHosts {
		t.Errorf("wrote %v", res.Written)
	}
	got := m.read(seedHosts)
	if !strings.HasPrefix(got, "[host]\n# registry-agent: begin\n") || !strings.HasSuffix(got, "# registry-agent: end\n"+strings.TrimPrefix(seedFile, "[host]\n")) {
		t.Errorf("the file is now\n%s", got)
	}
	if m.mode(seedHosts) != 0o600 {
		t.Errorf("who may read the token: %s", m.mode(seedHosts))
	}
	if m.read(source+"/.registry-agent-ca.crt") != m.ca {
		t.Error("the CA that the block names is not there")
	}
	if res := m.apply(m.plan(platform(), source)); res.Changed() {
		t.Errorf("the second time wrote %v", res)
	}
	res = m.apply(m.plan(layout.Layout{}, source))
	if len(res.Restored) != 1 {
		t.Errorf("restored %v", res.Restored)
	}
	if after := m.files("/etc"); !maps.Equal(before, after) {
		t.Errorf("not as before:\n%v\n%v", before, after)
	}
}

func TestUserWritesAnew(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.putMode(seedHosts, seedFile, 0o640)
	m.apply(m.plan(platform(), source))
	other := strings.ReplaceAll(seedFile, `"username"`, `"somebody"`)
	m.rewrite(seedHosts, other)
	p := m.plan(platform(), source)
	if u := p.Routes[0].Mirrors[0].Credentials.Username; u != "somebody" {
		t.Errorf("the agent would send %s", u)
	}
	if res := m.apply(p); len(res.Written) != 1 {
		t.Errorf("the block was not put back: %v", res)
	}
	// An editor shows the block, and the user adds lines around it.
	edited := "# mine\n" + m.read(seedHosts) + "[host.\"https://other.io\"]\n"
	m.rewrite(seedHosts, edited)
	m.apply(m.plan(platform(), source))
	m.apply(m.plan(layout.Layout{}, source))
	if got, want := m.read(seedHosts), "# mine\n"+other+"[host.\"https://other.io\"]\n"; got != want {
		t.Errorf("got\n%s", got)
	}
	if m.mode(seedHosts) != 0o640 {
		t.Errorf("mode %s", m.mode(seedHosts))
	}
}

func TestFreshFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put(seedHosts, seedFile)
	if err := os.WriteFile(m.path(seedHosts), []byte(seedFile), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err := m.plan(platform(), source).Apply()
	if err != nil || !res.Again || res.Changed() {
		t.Skipf("the machine was too slow for this: %v, %v", res, err)
	}
	if m.read(seedHosts) != seedFile {
		t.Error("the file was replaced under its writer")
	}
}
