package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// A name that leads to this machine is refused when it is dialled, whatever it
// is called; the upstream's own address is not.
func TestDialledAddressIsJudged(t *testing.T) {
	t.Parallel()
	node := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(node.Close)
	_, port, err := net.SplitHostPort(node.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	local := "localhost:" + port
	for _, tc := range []struct {
		origin string
		proxy  string
		ok     bool
	}{
		{origin: "https://registry.example.com"},
		{origin: "https://10.0.0.2:5000"},
		{origin: "https://10.0.0.2:" + port},
		{origin: "http://127.0.0.1:5000", ok: true},
		{origin: "https://localhost:5000", ok: true},
		{origin: "https://" + local, ok: true},
		{origin: "https://registry.example.com", proxy: "http://" + local, ok: true},
	} {
		origin, err := url.Parse(tc.origin)
		if err != nil {
			t.Fatal(err)
		}
		d := newDialer(origin)
		if via, err := url.Parse(tc.proxy); err == nil {
			d.proxies.Store(addressOf(via), true)
		}
		conn, err := d.dial(t.Context(), "tcp", local)
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, regauth.ErrForbiddenHop) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

func TestPrivateNetworksAreDialled(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"10.1.2.3:443": true, "192.168.0.1:5000": true, "172.16.0.1:80": true, "[fd00::1]:443": true, "93.184.216.34:443": true,
		"127.0.0.1:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": false, "[::]:80": false,
		"169.254.169.254:80": false, "[fe80::1%eth0]:80": false, "100.100.100.200:80": false, "[fd00:ec2::254]:80": false, "nonsense": false,
	} {
		if err := refuseForbidden(t.Context(), "tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
		if ip, err := netip.ParseAddrPort(address); err == nil && regauth.ForbiddenAddress(ip.Addr()) == ok {
			t.Errorf("%s", address)
		}
	}
}

// A registry on another machine cannot make us read what the node serves to
// itself: neither by a redirect nor as its token server.
func TestRegistryCannotReachIntoTheNode(t *testing.T) {
	t.Parallel()
	asked := false
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked = true
		_, _ = w.Write([]byte("pods of the node"))
	}))
	t.Cleanup(node.Close)
	local := strings.Replace(node.URL, "127.0.0.1", "localhost", 1)
	for name, tc := range map[string]struct {
		status int
		header http.Header
	}{
		"redirect": {307, http.Header{"Location": {local + "/pods"}}},
		"realm":    {401, http.Header{"Www-Authenticate": {`Bearer realm="` + local + `/token",service="x"`}}},
	} {
		a, _, img := pair(t, testregistry.Options{})
		s := start(t, Config{}, upstream.Upstream{Host: "registry.example.com", Scheme: upstream.HTTP, Path: "team/a"})
		for _, tg := range s.table.targets {
			dial := tg.transport.base.DialContext
			tg.transport.base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "registry.example.com:80" {
					address = a.Host()
					return new(net.Dialer).DialContext(ctx, network, address)
				}
				return dial(ctx, network, address)
			}
			// Below the check of the name there is that of the address.
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, local, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := tg.transport.base.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if !errors.Is(err, regauth.ErrForbiddenHop) {
				t.Errorf("%s: dialled: %v", name, err)
			}
		}
		a.SetFaults(testregistry.Faults{Status: tc.status, Header: tc.header})
		digest, _ := blob(t, img)
		got := s.get(blobPath(digest))
		if got.status != http.StatusBadGateway || strings.Contains(string(got.body), "pods of") || asked {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}
