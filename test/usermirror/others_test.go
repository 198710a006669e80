package usermirror_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// elsewhere is an address that containerd does not take for this machine's own.
const elsewhere = "192.0.2.1"

// serveAt serves at an address of its own, by TLS or not. The CA is empty without.
func serveAt(t *testing.T, h http.Handler, secure bool) (host, ca string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", elsewhere+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = l
	if !secure {
		s.Start()
	} else {
		pair, pem, err := cert.SelfSigned(elsewhere)
		if err != nil {
			t.Fatal(err)
		}
		ca = pem
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		s.StartTLS()
	}
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return l.Addr().String(), ca
}

// TestOthersOfTheHost: the platform's registry is asked by plain HTTP, or has a CA
// of its own. Pulls of other repositories of its host are as without us, whether or
// not the agent runs; pulls of the platform go on without the agent.
func TestOthersOfTheHost(t *testing.T) {
	for _, v := range containerdtest.Versions() {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %t", v, secure), func(t *testing.T) { playOthers(t, v, secure) })
		}
	}
}

func playOthers(t *testing.T, v containerdtest.Version, secure bool) {
	r := testregistry.New(t, testregistry.Options{})
	behind := &url.URL{Scheme: "http", Host: r.Host()}
	u := upstream.Upstream{Path: "d8", Scheme: upstream.HTTP}
	u.Host, u.CA = serveAt(t, httputil.NewSingleHostReverseProxy(behind), secure)
	if secure {
		u.Scheme = upstream.HTTPS
	}
	n := newNode(t, v, "certs.d")
	r.Push(t, "other/app", "1", image(t))
	for _, tag := range []string{"1", "2", "3", "4"} {
		r.Push(t, "d8/tool", tag, image(t))
	}
	others := func(when string, want bool) {
		t.Helper()
		r.ResetLog()
		err := n.pull(u.Host + "/other/app:1")
		asked := r.Count(func(q testregistry.Request) bool { return strings.Contains(q.Path, "other/app") })
		if (err == nil) != want || !want && asked > 0 {
			t.Errorf("%s: others pull: %v, and %d requests came in a way that they did not ask for", when, err, asked)
		}
	}
	ours := func(when, tag string) {
		t.Helper()
		if err := n.pull(u.Host + "/d8/tool:" + tag); err != nil {
			t.Errorf("%s: the platform pulls: %v", when, err)
		}
	}
	others("without us", false)

	crossed := layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(u)}, []upstream.Upstream{u})
	n.layout = layout.Layout{Schema: layout.Schema, Generation: 2, Mode: "Direct", ActiveMode: "Direct", Target: u, Active: u, Routes: crossed}
	table := routes.NewTable(nil)
	t.Cleanup(table.Close)
	if err := table.Swap(n.layout); err != nil {
		t.Fatal(err)
	}
	n.layout.Fallback.Host, n.layout.Fallback.CA = serveAt(t, proxy.New(table, proxy.Config{}), true)
	n.republish()
	n.pass()
	ours("Direct", "1")
	others("Direct", false)
	n.stop()
	ours("Direct without agent", "2")
	others("Direct without agent", false)

	// Without an in-cluster proxy only containerd itself can reach the registry.
	n.layout.Mode, n.layout.ActiveMode, n.layout.Generation, n.layout.Fallback = layout.Unmanaged, layout.Unmanaged, 3, layout.Fallback{}
	n.republish()
	n.pass()
	ours("Unmanaged", "3")
	n.stop()
	ours("Unmanaged without agent", "4")
	others("Unmanaged without agent, as docs/mirrors.md says", true)
}
