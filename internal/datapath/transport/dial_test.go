package transport

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

	"github.com/d8-registry/registry/internal/datapath/judge"
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
	d := newDialer(&url.URL{Scheme: "https", Host: "registry.example.com"})
	d.own = func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(10, 1, 2, 4), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("fd00::4"), Mask: net.CIDRMask(64, 128)}}, nil
	}
	for address, ok := range map[string]bool{
		"10.1.2.3:443": true, "192.168.0.1:5000": true, "172.16.0.1:80": true, "[fd00::1]:443": true, "93.184.216.34:443": true,
		"10.1.2.3:5000": true, "[fd00::1]:5000": true, // neighbours of this machine
		"127.0.0.1:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false, "0.0.0.0:80": false, "[::]:80": false,
		"169.254.169.254:80": false, "[fe80::1%eth0]:80": false, "100.100.100.200:80": false, "[fd00:ec2::254]:80": false, "nonsense": false,
		"168.63.129.16:80": false, "192.0.0.192:80": false, "[64:ff9b::a9fe:a9fe]:80": false,
	} {
		if err := d.refuseForbidden(t.Context(), "tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
		if ip, err := netip.ParseAddrPort(address); err == nil && regauth.ForbiddenAddress(ip.Addr()) == ok {
			t.Errorf("%s", address)
		}
	}
}

// The node's own addresses are where kubelet and etcd listen. What is published
// there stays reachable, and so does the storage of a registry that is here itself.
func TestTheNodesOwnAddresses(t *testing.T) {
	t.Parallel()
	here := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(here.Close)
	var own netip.Addr
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			own = p.Addr()
		}
	}
	if !own.IsValid() {
		t.Skip("this machine has only loopback")
	}
	d := newDialer(&url.URL{Scheme: "https", Host: "registry.example.com"})
	for _, tc := range []struct {
		port    uint16
		refused bool
	}{{10250, true}, {2379, true}, {9100, true}, {443, false}, {80, false}, {30000, false}, {32767, false}, {32768, true}} {
		err := d.refuseForbidden(t.Context(), "tcp", netip.AddrPortFrom(own, tc.port).String(), nil)
		if errors.Is(err, regauth.ErrForbiddenHop) != tc.refused {
			t.Errorf("port %d: %v", tc.port, err)
		}
	}
	if _, err := d.dial(t.Context(), "tcp", netip.AddrPortFrom(own, 10250).String()); !errors.Is(err, regauth.ErrForbiddenHop) {
		t.Errorf("dialled: %v", err)
	}
	d.reached.Store(own)
	if err := d.refuseForbidden(t.Context(), "tcp", netip.AddrPortFrom(own, 9000).String(), nil); err != nil {
		t.Errorf("the storage of a registry of this node: %v", err)
	}
	// A registry is at home when its own connection leads here.
	_, port, err := net.SplitHostPort(here.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for host, home := range map[string]bool{"127.0.0.1": true, "192.0.2.200": false} {
		d := newDialer(&url.URL{Scheme: "http", Host: host + ":" + port})
		if conn, err := d.dial(t.Context(), "tcp", "127.0.0.1:"+port); err == nil && home {
			_ = conn.Close()
		}
		if d.isHere() != home {
			t.Errorf("%s: at home: %v", host, !home)
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
		a := testregistry.New(t, testregistry.Options{})
		tr, err := New(upstream.Upstream{Host: "registry.example.com", Scheme: upstream.HTTP, Path: "team/a"})
		if err != nil {
			t.Fatal(err)
		}
		dial := tr.base.DialContext
		tr.base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "registry.example.com:80" {
				return new(net.Dialer).DialContext(ctx, network, a.Host())
			}
			return dial(ctx, network, address)
		}
		a.SetFaults(testregistry.Faults{Status: tc.status, Header: tc.header})
		// Below the check of the name there is that of the address.
		for address, by := range map[string]http.RoundTripper{local: tr.base, "http://registry.example.com/v2/team/a/tool/tags/list": tr} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := by.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if outcome, _ := judge.OfError(err); !errors.Is(err, regauth.ErrForbiddenHop) || outcome.Status() != http.StatusBadGateway || asked {
				t.Errorf("%s: %s: %v", name, address, err)
			}
		}
	}
}
