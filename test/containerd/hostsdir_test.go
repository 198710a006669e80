package containerd

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
)

const hostsToken = "0123456789abcdef0123456789abcdef"

// hostsRead is what containerd itself makes of our directory for one host:
// scheme and host of each place that it would ask, in order.
func hostsRead(t *testing.T, dir, host string) ([]string, []docker.RegistryHost) {
	t.Helper()
	hosts, err := config.ConfigureHosts(t.Context(), config.HostOptions{HostDir: config.HostDirFromRoot(dir)})(host)
	if err != nil {
		t.Fatalf("containerd reads %s: %v", host, err)
	}
	var urls []string
	for _, h := range hosts {
		urls = append(urls, h.Scheme+"://"+h.Host+h.Path)
	}
	return urls, hosts
}

func hostsTLS(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return server, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

// hostsTree is a switch from A to B with a fallback, as a tree.
func hostsTree(t *testing.T, agent, ca string, a, b upstream.Upstream) hostsdir.Tree {
	t.Helper()
	tree, err := hostsdir.Render(layout.Layout{
		Target: b, Active: a,
		Fallback: layout.Fallback{Host: "10.96.0.17:5001", CA: ca, Credentials: upstream.Credentials{Username: "node", Password: "p\"w"}},
		Routes:   layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(a), layout.NameOf(b)}, []upstream.Upstream{b, a}),
	}, hostsdir.Options{AgentURL: agent, Token: hostsToken, AgentCA: ca})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestHostsdirIsReadAsMeant lets containerd's own code read what we write.
func TestHostsdirIsReadAsMeant(t *testing.T) {
	t.Parallel()
	agent, ca := hostsTLS(t)
	registry, registryCA := hostsTLS(t)
	a := upstream.Upstream{Host: registry.Listener.Addr().String(), Path: "team", Scheme: upstream.HTTPS, CA: registryCA}
	b := upstream.Upstream{Host: "b.example.com:8080", Path: "mirror", Scheme: upstream.HTTP}
	dir := t.TempDir()
	folder, err := hostsdir.MakeDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	if _, err := hostsdir.Apply(folder, hostsTree(t, agent.URL, ca, a, b)); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string][]string{
		layout.Fixed().Host: {agent.URL + "/v2", "https://10.96.0.17:5001/v2", agent.URL + "/v2"},
		// Others' repositories come to the registry as without us first.
		a.Host:              {agent.URL + "/v2", "https://" + a.Host + "/v2", "https://10.96.0.17:5001/v2", "https://" + a.Host + "/v2"},
		b.Host:              {agent.URL + "/v2", "https://" + b.Host + "/v2", "https://10.96.0.17:5001/v2", "http://" + b.Host + "/v2"},
		"other.example.com": {"https://other.example.com/v2"},
	} {
		got, hosts := hostsRead(t, dir, host)
		if !slices.Equal(got, want) {
			t.Errorf("%s: containerd asks %q, want %q", host, got, want)
			continue
		}
		for i, h := range hosts {
			header := h.Header.Get(hostsdir.TokenHeader)
			if ours := got[i] == agent.URL+"/v2"; ours != (header == hostsToken) || ours && h.Capabilities.Has(docker.HostCapabilityPush) {
				t.Errorf("%s: %s gets token %q and capabilities %v", host, got[i], header, h.Capabilities)
			}
		}
	}
	_, hosts := hostsRead(t, dir, layout.Fixed().Host)
	if got, want := hosts[1].Header.Get("Authorization"), "Basic "+base64.StdEncoding.EncodeToString([]byte(`node:p"w`)); got != want {
		t.Errorf("fallback: Authorization %q, want %q", got, want)
	}
	// The certificates: each host trusts its own and, A's, the registry's.
	hostsGet(t, hosts[0], agent.URL)
	_, hosts = hostsRead(t, dir, a.Host)
	hostsGet(t, hosts[0], agent.URL)
	hostsGet(t, hosts[3], registry.URL)
}

func hostsGet(t *testing.T, h docker.RegistryHost, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		t.Errorf("with containerd's client: %v", err)
		return
	}
	_ = resp.Body.Close()
}

// TestHostsdirLeftoversAreIgnored: what a crash may leave in a directory
// changes nothing of what containerd reads.
func TestHostsdirLeftoversAreIgnored(t *testing.T) {
	t.Parallel()
	agent, ca := hostsTLS(t)
	a := upstream.Upstream{Host: "a.example.com", Path: "team", Scheme: upstream.HTTPS}
	dir := t.TempDir()
	folder, err := hostsdir.MakeDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	tree := hostsTree(t, agent.URL, ca, a, a)
	if _, err := hostsdir.Apply(folder, tree); err != nil {
		t.Fatal(err)
	}
	want, _ := hostsRead(t, dir, layout.Fixed().Host)
	for _, d := range tree {
		for _, f := range d.Files {
			if err := os.WriteFile(filepath.Join(dir, d.Host, f.Name+".registry-agent"), []byte("half a fi"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, _ := hostsRead(t, dir, layout.Fixed().Host); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	// Before hosts.toml is there: the registry itself, half-written files or not.
	if err := os.Remove(filepath.Join(dir, a.Host, "hosts.toml")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if got, _ := hostsRead(t, dir, a.Host); !slices.Equal(got, []string{"https://a.example.com/v2"}) {
		t.Errorf("without hosts.toml: %q", got)
	}
}

// TestHostsdirConflictsAreContainerds: the two cases in which a directory of
// somebody else is in the way are those in which containerd reads that one.
func TestHostsdirConflictsAreContainerds(t *testing.T) {
	t.Parallel()
	agent, ca := hostsTLS(t)
	a := upstream.Upstream{Host: "a.example.com:8443", Path: "team", Scheme: upstream.HTTPS}
	for _, theirs := range []string{"a.example.com_8443_", "a.example.com:8443"} {
		dir := t.TempDir()
		write(t, dir, theirs+".toml", nil)
		if err := os.Mkdir(filepath.Join(dir, theirs), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, theirs), "hosts.toml", []byte("server = \"https://theirs.example.com\"\n"))
		folder, err := hostsdir.MakeDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		res, err := hostsdir.Apply(folder, hostsTree(t, agent.URL, ca, a, a))
		_ = folder.Close()
		if err != nil || len(res.Conflicts) != 1 || res.Conflicts[0].Directory != theirs {
			t.Errorf("%s: %+v, %v", theirs, res.Conflicts, err)
		}
		if got, _ := hostsRead(t, dir, a.Host); !slices.Equal(got, []string{"https://theirs.example.com/v2"}) {
			t.Errorf("%s: containerd asks %q", theirs, got)
		}
	}
}
