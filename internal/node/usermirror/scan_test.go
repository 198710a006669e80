package usermirror_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
)

// look reads one file of registry.io.
func (m *machine) look(text string) (usermirror.Host, []usermirror.Problem) {
	m.t.Helper()
	m.put(seedHosts, text)
	hosts, problems := usermirror.Scan(usermirror.Node{Root: m.root}, source)
	if len(hosts) != 1 {
		m.t.Fatalf("hosts %v, problems %v", hosts, problems)
	}
	return hosts[0], problems
}

func TestLookReadsWhatContainerdReads(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.put(source+"/registry.io/own.crt", "# text\n"+m.ca)
	h, problems := m.look(`server = "https://registry.io/prefix"
ca = "own.crt"
[auth]
username = "top"
password = "TOP"
[host]
[host."http://A.example.com:5000/x/"]
capabilities = ["Pull"]
[host."b.example.com/v2/project"]
override_path = true
ca = ["own.crt", "/path/to/ca.crt"]
unknown = 1
[host."b.example.com/v2/project".header]
X-One = "1"
X-Two = ["2", "3"]
[[host."b.example.com/v2/project".rewrite]]
regex = "^a/(.*)"
replace = "b/$1"
[[host."b.example.com/v2/project".rewrite]]
regex = "^c"
[host."https://c.example.com".auth]
auth = "` + base64.StdEncoding.EncodeToString([]byte("u:p:w\x00")) + `"
[host."https://c.example.com"]
skip_verify = true
capabilities = ["resolve", "push"]
`)
	if len(problems) != 1 || !problems[0].Harmless || problems[0].Line != 12 || problems[0].Key != `host."b.example.com/v2/project".unknown` {
		t.Fatal(problems)
	}
	up := func(scheme upstream.Scheme, host, ca string) upstream.Upstream {
		return upstream.Upstream{Scheme: scheme, Host: host, CA: ca}
	}
	c := up(upstream.HTTPS, "c.example.com", "")
	c.Credentials = upstream.Credentials{Username: "u", Password: "p:w"}
	top := up(upstream.HTTPS, "registry.io", m.ca)
	top.Credentials = upstream.Credentials{Username: "top", Password: "TOP"}
	want := []upstream.Mirror{
		{Upstream: up(upstream.HTTP, "a.example.com:5000", ""), Root: "/x/v2", NoResolve: true},
		{
			Upstream: up(upstream.HTTPS, "b.example.com", m.ca+m.ca), Root: "/v2/project",
			Header:   map[string][]string{"X-One": {"1"}, "X-Two": {"2", "3"}},
			Rewrites: []upstream.Rewrite{{Regex: "^a/(.*)", Replace: "b/$1"}, {Regex: "^c"}},
		},
		{Upstream: c, Root: "/v2", NoPull: true, SkipVerify: true},
		{Upstream: top, Root: "/prefix/v2"},
	}
	for i, e := range h.Endpoints {
		if e.Mirror.ID() != want[i].ID() {
			t.Errorf("endpoint %d: got %+v\nwant %+v", i, e.Mirror, want[i])
		}
	}
	if len(h.Endpoints) != len(want) || !h.NeedsAgent {
		t.Errorf("%d endpoints, needs the agent: %t", len(h.Endpoints), h.NeedsAgent)
	}
}

// TestLookSaysWhatIsWrong has a secret in every file: no sentence may show it.
func TestLookSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	const secret = "S3CRET"
	one := "[host]\n[host.\"https://m.io\"]\n"
	auth := one + "[host.\"https://m.io\".auth]\n"
	for name, c := range map[string]struct {
		text       string
		line       int
		key, want  string
		unreadable bool
	}{
		"no TOML":           {auth + "password = \"" + secret + "\"x\"\n", 4, "", "cannot read it as TOML", true},
		"capability":        {one + "capabilities = [\"fetch\"]\n", 3, `host."https://m.io".capabilities`, "ignores the whole file", true},
		"capabilities":      {one + "capabilities = \"pull\"\n", 3, `host."https://m.io".capabilities`, "expected a list", true},
		"skip_verify":       {one + "skip_verify = \"" + secret + "\"\n", 3, `host."https://m.io".skip_verify`, "true or false", true},
		"ca type":           {one + "ca = 1\n", 3, `host."https://m.io".ca`, "file name", true},
		"ca missing":        {one + "ca = [\"gone.crt\"]\n", 3, `host."https://m.io".ca`, "/etc/containerd/registry.d/registry.io/gone.crt cannot be used: it does not exist", false},
		"ca empty":          {one + "ca = \"/etc/containerd/registry.d/registry.io/hosts.toml\"\n", 3, `host."https://m.io".ca`, "no PEM certificate", false},
		"client":            {one + "client = [[\"a\"]]\n", 3, `host."https://m.io".client`, "pairs", true},
		"client missing":    {one + "client = [[\"a.cert\", \"a.key\"]]\n", 3, `host."https://m.io".client`, "a.cert cannot be used", false},
		"header":            {one + "header = {a = 1}\n", 3, `host."https://m.io".header.a`, "string", true},
		"header line break": {one + "header = {a = \"" + secret + "\\n\"}\n", 3, `host."https://m.io".header.a`, "line breaks", false},
		"auth type":         {one + "auth = \"" + secret + "\"\n", 3, `host."https://m.io".auth`, "table", false},
		"password type":     {auth + "username = \"u\"\npassword = 7\n", 5, `host."https://m.io".auth.password`, "string", false},
		"password alone":    {auth + "password = \"" + secret + "\"\n", 3, `host."https://m.io".auth.username`, "no username", false},
		"auth no base64":    {auth + "auth = \"<" + secret + ">\"\n", 4, `host."https://m.io".auth.auth`, "base64", false},
		"identity token":    {auth + "identitytoken = \"" + secret + "\"\n", 4, `host."https://m.io".auth.identitytoken`, "not supported", false},
		"colon":             {auth + "username = \"a:" + secret + "\"\npassword = \"p\"\n", 3, `host."https://m.io".auth`, "':'", false},
		"regex":             {one + "[[host.\"https://m.io\".rewrite]]\nregex = \"(" + secret + "\"\n", 4, `host."https://m.io".rewrite.0.regex`, "regular expression", false},
		"regex missing":     {one + "[[host.\"https://m.io\".rewrite]]\nreplace = \"x\"\n", 3, `host."https://m.io".rewrite.0.regex`, "regular expression", false},
		"rewrite table":     {one + "[host.\"https://m.io\".rewrite]\nregex = \"x\"\n", 3, `host."https://m.io".rewrite`, "list of tables", false},
		"scheme":            {"[host]\n[host.\"httpx://m.io\"]\n", 2, `host."httpx://m.io"`, "neither http nor https", false},
		"no host":           {"[host]\n[host.\"https://\"]\n", 2, `host."https://"`, "expected https://host", false},
		"password in a URL": {"[host]\n[host.\"https://u:" + secret + "@m.io\"]\n", 2, `host."https://m.io"`, "auth table", false},
		"inline":            {"[host]\n\"https://m.io\" = {skip_verify = true}\n", 2, `host."https://m.io"`, "does not see it", false},
		"host a string":     {"[host]\na = \"" + secret + "\"\n", 2, "host.a", "ignores the whole file", true},
		"server":            {"server = 1\n", 1, "server", "string", true},
		"dial_timeout":      {one + "dial_timeout = \"" + secret + "\"\n", 3, `host."https://m.io".dial_timeout`, "duration", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, problems := newMachine(t).look(c.text)
			if len(problems) != 1 {
				t.Fatalf("problems %v", problems)
			}
			p := problems[0]
			if p.Line != c.line || p.Key != c.key || !strings.Contains(p.Text, c.want) || h.Unreadable != c.unreadable {
				t.Errorf("got line %d, key %s, unreadable %t: %s", p.Line, p.Key, h.Unreadable, p.Text)
			}
			if p.File != seedHosts || strings.Contains(p.String(), secret) {
				t.Errorf("%s", p)
			}
		})
	}
}

func TestLookTakesUserNameBeforeAuth(t *testing.T) {
	t.Parallel()
	h, problems := newMachine(t).look(strings.ReplaceAll(seedFile, "dXNlcm5hbWU6cGFzcyN3Im9yZA==", "<base64>"))
	if len(problems) > 0 || h.Endpoints[0].Mirror.Credentials != (upstream.Credentials{Username: "username", Password: "pass#w\"ord"}) {
		t.Errorf("problems %v, credentials of %s", problems, h.Endpoints[0].Mirror.Credentials.Username)
	}
}

func TestLookFindsDirectoriesAsContainerdDoes(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, dir := range []string{"a.io:5000", "a.io_5000_", "b.io_5000_", "_default", "registry.d8-system.svc:5001", ".hidden", "no good name"} {
		m.put(source+"/"+dir+"/hosts.toml", seedFile)
	}
	m.put(source+"/certs.io/ca.crt", m.ca)
	m.put(source+"/ours.io/hosts.toml", "# Written by registry-agent, which undoes changes made by hand.\n")
	hosts, problems := usermirror.Scan(usermirror.Node{Root: m.root}, source)
	var got []string
	for _, h := range hosts {
		got = append(got, fmt.Sprintf("%s in %s, unreadable %t", h.Name, h.Directory, h.Unreadable))
	}
	want := []string{
		"_default in _default, unreadable false", "a.io:5000 in a.io_5000_, unreadable false",
		"b.io:5000 in b.io_5000_, unreadable false", "no good name in no good name, unreadable true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if len(problems) != 2 || !strings.Contains(problems[1].Text, "a.io_5000_/hosts.toml is for the same host") {
		t.Errorf("problems %v", problems)
	}
}

func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	h, _ := newMachine(t).look(seedFile)
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(form, h.Endpoints[0].Mirror); strings.Contains(text, "pass#w") {
			t.Errorf("%s shows the password: %s", form, text)
		}
	}
}
