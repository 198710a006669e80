package agent_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// TestAnotherProcessProves: the pull is ordered from the kubelet's containerd,
// which does not come to the agent but goes to a mirror on the node that does,
// with the very nonce and the token, as one that pulls by another containerd
// with our host directories would. That is no redirect.
func TestAnotherProcessProves(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, version)
			c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \"@/certs.d\"\n")
			w := worldOn(t, c)
			w.node.HostsDir = filepath.Join(c.Dir, "elsewhere") // where the other one looks
			_, a := registry(t, "team/a")
			w.startServe()
			relay := httptest.NewServer(w.relay())
			defer relay.Close()
			c.Write(t, "certs.d/"+fixedHost+"/hosts.toml", "[host.\""+relay.URL+"\"]\n  capabilities = [\"pull\", \"resolve\"]\n")
			w.startNode()
			w.publish(a, []layout.Name{layout.Fixed()})
			s := w.until("a proof that fails", func(s registryv1alpha1.RegistryNodeStatus) bool {
				return len(s.Redirects) > 0 && strings.Contains(s.Message, "not from the kubelet's containerd")
			})
			if s.Generation != 0 || s.Redirects[0].Proved || s.Restart != nil {
				t.Errorf("%+v", s)
			}
		})
	}
}

// relay brings requests to the agent as containerd would.
func (w *world) relay() http.Handler {
	w.t.Helper()
	folder := handoff.Existing(w.node.StateDir)
	var token, ca string
	w.eventually("the agent's certificate", func() bool {
		var err, failed error
		token, err = folder.Token()
		ca, failed = folder.CA()
		return err == nil && failed == nil
	})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: w.node.Listen})
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Set(hostsdir.TokenHeader, token)
		proxy.ServeHTTP(rw, r)
	})
}

// TestUsersDirectoryIsTheRoute: if a user has set up the registry's own host, the
// user's mirrors are its route, which is reported. A block is added to the user's
// file, and taken out again without any other change.
func TestUsersDirectoryIsTheRoute(t *testing.T) {
	t.Parallel()
	for _, version := range containerdtest.Versions() {
		t.Run(string(version), func(t *testing.T) {
			t.Parallel()
			c := containerdtest.NewVersion(t, version)
			c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \"@/registry.d\"\n")
			w := worldOn(t, c)
			_, a := registry(t, "team/a")
			file := filepath.Join(w.node.SourceDir, a.Host, "hosts.toml")
			const theirs = "# mine\n[host]\n[host.\"http://127.0.0.1:9\"]\n  capabilities = [\"pull\"]\n"
			c.Write(t, "registry.d/"+a.Host+"/hosts.toml", theirs)
			w.must(os.Chmod(file, 0o640))
			w.start()
			w.publishLayout(w.unmanaged(a))
			s := w.reported()
			if len(s.Redirects) != 2 || !s.Redirects[0].Proved || !s.Redirects[1].Proved || s.Message != "" ||
				!slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, a.Host+" is set up by a user in "+file) }) {
				t.Errorf("%+v", s)
			}
			w.must(w.pull(layout.NameOf(a).Reference("app:v1")))
			if got, err := os.ReadFile(file); err != nil || !strings.Contains(string(got), "registry-agent: begin") || !strings.Contains(string(got), "127.0.0.1:9") {
				t.Errorf("%s, %v", got, err)
			}
			w.must(w.api.Client().Delete(t.Context(), w.secret))
			w.order(func(spec *registryv1alpha1.RegistryNodeSpec) { spec.Legacy = true })
			w.until("the legacy format", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Legacy })
			info, err := os.Stat(file)
			w.must(err)
			if got, err := os.ReadFile(file); err != nil || string(got) != theirs || info.Mode().Perm() != 0o640 {
				t.Errorf("%s, %s, %v", got, info.Mode(), err)
			}
			if c.Starts() != 1 {
				t.Errorf("%d starts", c.Starts())
			}
		})
	}
}
