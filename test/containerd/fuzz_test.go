package containerd

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
)

// FuzzTree makes layouts of whatever comes. Each one that is valid renders to
// a tree that containerd's own code of every version reads as the same hosts, in the
// same order and with the same certificates and headers, and nothing is written
// anywhere but below the folder.
func FuzzTree(f *testing.F) {
	ca := func(name string) string {
		data, err := os.ReadFile("../../internal/node/hostsdir/testdata/" + name + ".crt")
		if err != nil {
			f.Fatal(err)
		}
		return string(data)
	}
	versions := oracles(f)
	agentCA, cas := ca("CA-AGENT"), []string{"", ca("CA-A"), ca("CA-B")}
	f.Add("a.example.com", "team", "b.example.com:8443", "mirror", "c.example.com", "x/y", []byte{10, 96, 0, 17}, uint16(5001), "node", "p\"w", uint16(0))
	f.Add("10.0.0.1:5000", "", "localhost:80", "a.b_c-d", "docker.io", "library", []byte{253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23}, uint16(443), "ü", "\\u0041]", uint16(0xffff))
	f.Add("../../etc", "..", "a\"]\n[host.\"https://evil", "x", "_default", "", []byte{}, uint16(1), "", "", uint16(0x55))
	f.Add("docker.io", "x", "docker.io", "y", "registry.d8-system.svc:5001", "z", []byte{127, 0, 0, 1}, uint16(65535), "u", "", uint16(0x1234))
	f.Add("[fd00::1]:5000", "x", "[::1]:443", "y", "registry.hub.docker.com", "z", []byte{10, 0, 0, 1}, uint16(5001), "_json_key", "{\n}\n", uint16(0x1234))
	f.Add("a.b", "", "a.b", "c", "a.b:443", "C", []byte{1, 2, 3, 4}, uint16(80), "A", "\x7f", uint16(0x0f0f))
	f.Fuzz(func(t *testing.T, hostA, pathA, hostB, pathB, hostC, pathC string, ip []byte, port uint16, user, password string, bits uint16) {
		pick := func(shift int, n uint16) uint16 { return bits >> shift % n }
		make1 := func(host, path string, shift int) upstream.Upstream {
			u := upstream.Upstream{Host: host, Path: path, Scheme: upstream.HTTPS, CA: cas[pick(shift, 3)]}
			if pick(shift+2, 2) == 1 {
				u.Scheme, u.CA = upstream.HTTP, ""
			}
			if pick(shift+3, 2) == 1 {
				u.Credentials = upstream.Credentials{Username: user, Password: password}
			}
			return u
		}
		a, b := make1(hostA, pathA, 0), make1(hostB, pathB, 4)
		names := []layout.Name{layout.Fixed(), layout.NameOf(a), layout.NameOf(b), {Host: hostC, Path: pathC}}
		l := layout.Layout{
			Schema: layout.Schema, Generation: 1, Mode: "Direct", Target: a, Active: b,
			Routes: layout.Cross(names[pick(8, 4):], []upstream.Upstream{a, b}),
		}
		if pick(10, 2) == 1 {
			l.Active = upstream.Upstream{}
		}
		if pick(13, 2) == 1 {
			l.ActiveMode = "Direct"
		}
		if addr, ok := netip.AddrFromSlice(ip); ok && port != 0 {
			c := upstream.Credentials{Username: user, Password: password}
			if (upstream.Upstream{Host: "x.y", Scheme: upstream.HTTPS, Credentials: c}).Validate() == nil {
				l.Fallback = layout.Fallback{Host: net.JoinHostPort(addr.String(), strconv.Itoa(int(port))), CA: cas[1+pick(11, 2)], Credentials: c}
			}
		}
		if l.Validate() != nil {
			return
		}
		checkTree(t, l, hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: hostsToken, AgentCA: agentCA}, versions)
	})
}

// checkTree writes a layout's tree for every containerd, and lets its own code read
// it.
func checkTree(t *testing.T, l layout.Layout, o hostsdir.Options, versions []oracle) {
	t.Helper()
	for _, v := range versions {
		o.Containerd = v.version
		tree, err := hostsdir.Render(l, o)
		if err != nil {
			t.Fatalf("a valid layout is refused: %v", err)
		}
		dir := applied(t, tree)
		for _, host := range hostsOf(l) {
			stock := v.ask(t, t.TempDir(), host).Hosts[0].plain()
			want, got := meant(t, l, o, host, stock), v.ask(t, dir, host)
			if got.Refused != "" || got.Failed != "" {
				t.Errorf("%s on %s: containerd says %q %q", host, v.version, got.Refused, got.Failed)
			}
			if !slices.EqualFunc(got.Hosts, want, func(a asked, p endpoint) bool {
				b := a.plain()
				same := (b.roots == nil) == (p.roots == nil)
				b.roots, p.roots = nil, nil
				return same && b == p
			}) {
				t.Errorf("%s on %s: containerd asks\n%+v\nwant\n%q", host, v.version, got.Hosts, want)
			}
			if v.version != versions[len(versions)-1].version {
				continue
			}
			// The certificates themselves.
			if exact, err := tryRead(t, dir, host); err != nil || !stock.skipVerify && !slices.EqualFunc(exact, want, endpoint.equal) {
				t.Errorf("%s: containerd asks\n%q\nwant\n%q, %v", host, exact, want, err)
			}
		}
		if got := v.ask(t, dir, "nobody.example.com").Hosts; len(got) != 1 || got[0].URL != "https://nobody.example.com/v2" {
			t.Errorf("a host of nobody's: %v", got)
		}
	}
}

// applied is a folder with a tree in it, and nothing beside it.
func applied(t *testing.T, tree hostsdir.Tree) string {
	t.Helper()
	parent := t.TempDir()
	dir := filepath.Join(parent, "certs.d")
	folder, err := hostsdir.MakeDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = hostsdir.Apply(folder, tree)
	_ = folder.Close()
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
		t.Fatalf("beside the folder: %v, %v", entries, err)
	}
	return dir
}

func hostsOf(l layout.Layout) (hosts []string) {
	for _, r := range l.Routes {
		if !slices.Contains(hosts, r.Name.Host) {
			hosts = append(hosts, r.Name.Host)
		}
	}
	return hosts
}
