package containerd

import (
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

const (
	hostsPage = "../../docs/hosts-files.md"
	userHost  = "registry.io"
)

// fixture is a node with one odd file of a user in it.
type fixture struct {
	name, root string
}

func (f fixture) file() string { return filepath.Join(f.root, userHost, "hosts.toml") }

// fixtures are the files of testdata/hosts, and what is no such file.
func fixtures(t *testing.T) []fixture {
	t.Helper()
	names, err := filepath.Glob("testdata/hosts/*.toml")
	if err != nil || len(names) < 60 {
		t.Fatalf("%d files: %v", len(names), err)
	}
	var all []fixture
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, newFixture(t, strings.TrimSuffix(filepath.Base(name), ".toml"), data))
	}
	plain := []byte("[host]\n[host.\"https://a.example.com\"]\n")
	long := strings.Repeat("# "+strings.Repeat("x", 1022)+"\n", 1000)
	all = append(all, newFixture(t, "(1 MiB of comments)", append([]byte(long), plain...)),
		newFixture(t, "(2 MiB of comments)", append([]byte(long+long), plain...)))
	link := newFixture(t, "(a symbolic link)", plain)
	if err := os.Rename(link.file(), link.file()+".real"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("hosts.toml.real", link.file()); err != nil {
		t.Fatal(err)
	}
	return append(all, link)
}

func newFixture(t *testing.T, name string, data []byte) fixture {
	t.Helper()
	f := fixture{name, t.TempDir()}
	files := filepath.Join(f.root, "files")
	for _, dir := range []string{files, filepath.Dir(f.file())} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := cert.NewAuthority("users")
	if err != nil {
		t.Fatal(err)
	}
	own, key, err := authority.Issue(pkix.Name{CommonName: "client"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, files, "ca.crt", []byte(certificate(t, "CA-A")))
	write(t, files, "client.cert", own)
	write(t, files, "client.key", key)
	write(t, files, "both.pem", append(slices.Clone(own), key...))
	write(t, filepath.Dir(f.file()), "hosts.toml", data)
	past := time.Now().Add(-time.Hour) // nobody is just writing it
	if err := os.Chtimes(f.file(), past, past); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) node(version string) usermirror.Node {
	return usermirror.Node{Root: "/", Source: f.root, Effective: f.root, Containerd: version}
}

// TestUsersFilesAreJudgedByVersion compares what we say about each file with what
// containerd itself makes of it, on every version. Then the platform's registry gets
// the same name, so that the file gets our block, and containerd reads that as meant.
// docs/hosts-files.md is the table of it.
func TestUsersFilesAreJudgedByVersion(t *testing.T) {
	t.Parallel()
	versions := oracles(t)
	var page strings.Builder
	page.WriteString(pageHead(versions))
	for _, f := range fixtures(t) {
		row, said := []string{f.name}, map[string][]string{}
		var order []string
		for _, o := range versions {
			cell, problems := f.judge(t, o)
			row = append(row, cell)
			for _, p := range problems {
				if said[p] == nil {
					order = append(order, p)
				}
				said[p] = append(said[p], o.version)
			}
		}
		var lines []string
		for _, p := range order {
			tag := ""
			if len(said[p]) < len(versions) {
				tag = "**" + strings.Join(said[p], ", ") + "**: "
			}
			lines = append(lines, tag+strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(p))
		}
		fmt.Fprintf(&page, "| %s | %s |\n", strings.Join(row, " | "), strings.Join(lines, "<br>"))
	}
	if *update {
		if err := os.WriteFile(hostsPage, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(hostsPage); err != nil || string(got) != page.String() {
		t.Errorf("%s is out of date (%v); run: cd test/containerd && go test -run %s -update", hostsPage, err, t.Name())
	}
}

func pageHead(versions []oracle) string {
	head, line := "| file |", "|---|"
	for _, o := range versions {
		head, line = head+" "+o.version+" |", line+"---|"
	}
	return `# What each containerd makes of a hosts.toml

What users write in ` + "`hosts.toml`" + ` is read by three parsers: those of containerd 1.6, 1.7 and 2.x differ. Each row is a file of
[test/containerd/testdata/hosts](../test/containerd/testdata/hosts) in the directory of ` + "`registry.io`" + `. The columns say what that
version of containerd itself does with it (how many hosts it asks, the server among them), and what a switch does when it needs
the name: ` + "`block`" + ` puts our block into the file. The last column is what ` + "`registry-agent doctor`" + ` and
` + "`RegistryNode.status.warnings`" + ` say on that version; without a version it is the same on all. A *warning* stops no pull.

A test makes this page and compares it with containerd's own code:
` + "`cd test/containerd && go test -run TestUsersFilesAreJudgedByVersion -update`" + `.

` + head + " `registry-agent doctor` |\n" + line + "---|\n"
}

// judge is what one version makes of the file, and what we say about it there.
func (f fixture) judge(t *testing.T, o oracle) (cell string, said []string) {
	t.Helper()
	before := o.ask(t, f.root, userHost)
	hosts, problems := usermirror.Scan(f.node(o.version), f.root)
	if len(hosts) > 0 {
		f.compare(t, o, before, hosts[0], problems)
	} else if before.Refused != "" || before.Failed != "" {
		t.Errorf("%s on %s: containerd says %q and %q, and we nothing", f.name, o.version, before.Refused, before.Failed)
	}
	switch {
	case strings.HasPrefix(before.Failed, "containerd ends"):
		cell = "ends"
	case before.Failed != "":
		cell = "fails every pull"
	case before.Refused != "":
		cell = "ignores it"
	default:
		cell = fmt.Sprintf("asks %d", len(before.Hosts))
	}
	wrote, more := f.withBlock(t, o, before)
	if wrote {
		cell += ", block"
	}
	for _, p := range append(problems, more...) {
		text := strings.ReplaceAll(p.String(), f.file(), "hosts.toml")
		text = strings.ReplaceAll(regexp.MustCompile(`containerd [0-9.]+`).ReplaceAllString(text, "containerd"), f.root, "…")
		if p.Harmless {
			text = "*warning* " + text
		}
		if !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	return cell, said
}

// compare fails unless we say what containerd does.
func (f fixture) compare(t *testing.T, o oracle, a answer, h usermirror.Host, problems []usermirror.Problem) {
	t.Helper()
	says := func(text string) bool {
		return slices.ContainsFunc(problems, func(p usermirror.Problem) bool { return !p.Harmless && strings.Contains(p.Text, text) })
	}
	ends := strings.HasPrefix(a.Failed, "containerd ends")
	if h.Unreadable != (a.Refused != "" || ends) {
		t.Errorf("%s on %s: containerd says %q and %q, we %v", f.name, o.version, a.Refused, a.Failed, problems)
		return
	}
	if ends != says("ends on it") || (a.Failed != "" && !ends) != says("fails every pull") {
		t.Errorf("%s on %s: containerd fails with %q, we say %v", f.name, o.version, a.Failed, problems)
	}
	if h.Unreadable || a.Failed != "" {
		return
	}
	last := len(a.Hosts) - 1
	var got []asked
	for _, one := range a.Hosts[:last] { // containerd 2 may ask one twice
		if !slices.ContainsFunc(got, func(o asked) bool { return o.URL == one.URL }) {
			got = append(got, one)
		}
	}
	got = append(got, a.Hosts[last])
	if says("in any order") {
		slices.SortFunc(got, func(a, b asked) int { return strings.Compare(a.URL, b.URL) })
	}
	if len(got) != len(h.Endpoints) {
		t.Errorf("%s on %s: containerd asks %v, we say %v", f.name, o.version, a.Hosts, h.Endpoints)
		return
	}
	for i, e := range h.Endpoints {
		if want := expected(e); !same(want, got[i]) {
			t.Errorf("%s on %s: containerd asks %+v, we say %+v", f.name, o.version, got[i], want)
		}
	}
}

// expected is what an endpoint of ours says that containerd asks.
func expected(e usermirror.Endpoint) asked {
	m := e.Mirror
	out := asked{URL: string(m.Scheme) + "://" + m.Host + m.Root, SkipVerify: m.SkipVerify, Clients: len(m.ClientCerts), Header: m.Header}
	if !m.NoPull {
		out.Capabilities |= 1
	}
	if !m.NoResolve {
		out.Capabilities |= 2
	}
	out.CAs = strings.Count(m.CA, "BEGIN CERTIFICATE")
	return out
}

func same(want, got asked) bool {
	url := strings.ToLower(got.URL)
	if at := strings.Index(url, "//v2"); at > len("https:/") { // of a URL that ends with a slash
		url = url[:at] + url[at+1:]
	}
	if strings.HasPrefix(url, ":") || strings.Contains(url, ":///") { // an address without a host
		return true
	}
	return strings.EqualFold(want.URL, url) && want.Capabilities == got.Capabilities&3 && want.SkipVerify == got.SkipVerify &&
		want.Clients == got.Clients && (want.CAs > 0) == (got.CAs > 0) && sameHeader(want.Header, got.Header)
}

func sameHeader(a, b http.Header) bool {
	return len(a) == len(b) && fmt.Sprint(a) == fmt.Sprint(b)
}

// withBlock gives the platform's registry the user's name, and reports whether the
// file got our block, and what is said besides. Containerd must read the file as
// before, with the agent first, and the user gets their bytes back.
func (f fixture) withBlock(t *testing.T, o oracle, before answer) (wrote bool, more []usermirror.Problem) {
	t.Helper()
	options := hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: hostsToken, AgentCA: certificate(t, "CA-AGENT"), Containerd: o.version}
	u := upstream.Upstream{Host: userHost, Path: "x", Scheme: upstream.HTTPS}
	l := layout.Layout{Routes: layout.Cross([]layout.Name{layout.NameOf(u)}, []upstream.Upstream{u})}
	text, err := os.ReadFile(f.file())
	if err != nil {
		t.Fatal(err)
	}
	plan := usermirror.NewPlan(f.node(o.version), l, options)
	res, err := plan.Apply()
	if err != nil || res.Again {
		t.Fatalf("%s on %s: %+v, %v", f.name, o.version, res, err)
	}
	if wrote = len(res.Written) > 0; wrote {
		after := o.ask(t, f.root, userHost)
		agent := asked{URL: "https://127.0.0.1:5001/v2", Capabilities: 3, Header: http.Header{hostsdir.TokenHeader: {hostsToken}}}
		ok := after.Refused == "" && after.Failed == before.Failed && len(after.Hosts) == len(before.Hosts)+1
		if before.Failed == "" && ok {
			agent.CAs = after.Hosts[0].CAs
			ok = agent.CAs > 0 && fmt.Sprint(after.Hosts[0]) == fmt.Sprint(agent) && fmt.Sprint(after.Hosts[1:]) == fmt.Sprint(before.Hosts)
		} else {
			ok = after.Failed == before.Failed && after.Refused == ""
		}
		if !ok {
			t.Errorf("%s on %s: with our block containerd asks\n%+v\nbefore\n%+v", f.name, o.version, after, before)
		}
	}
	if _, err := usermirror.NewPlan(f.node(o.version), layout.Layout{}, options).Apply(); err != nil {
		t.Fatal(err)
	}
	if back, err := os.ReadFile(f.file()); err != nil || string(back) != string(text) {
		t.Errorf("%s on %s: the user's bytes are now %q, %v", f.name, o.version, back, err)
	}
	if left, err := filepath.Glob(filepath.Join(f.root, ".*")); err != nil || len(left) > 0 {
		t.Errorf("%s on %s: left behind: %v, %v", f.name, o.version, left, err)
	}
	return wrote, plan.Problems
}
