package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// dialer connects for one upstream. Where an upstream sends us (token servers,
// redirects) is checked by the address that is really dialled: any DNS name may
// lead to this machine. The upstream's own address was given by the user, and so
// was an HTTP proxy; neither is checked.
type dialer struct {
	origin   string // host:port of the upstream
	loopback bool   // the upstream is on this machine, and may send us to others here
	proxies  sync.Map
	reached  atomic.Value               // netip.Addr: where the upstream was reached last
	own      func() ([]net.Addr, error) // addresses of this machine
	secured  *tls.Config
	herd     herd
}

func newDialer(origin *url.URL) *dialer {
	return &dialer{origin: addressOf(origin), loopback: regauth.IsLoopback(origin.Hostname()), own: net.InterfaceAddrs}
}

// proxy is http.ProxyFromEnvironment and remembers its answers.
func (d *dialer) proxy(req *http.Request) (*url.URL, error) {
	via, err := http.ProxyFromEnvironment(req) // never for loopback
	if via != nil {
		d.proxies.Store(addressOf(via), true)
	}
	return via, err
}

// connect is dial for all requests together, see herd.
func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	return d.herd.connect(ctx, address, func() (net.Conn, error) { return d.dial(ctx, network, address) })
}

// connectTLS is connect with a handshake: a server whose certificate is no good is no
// better than one that is dead.
func (d *dialer) connectTLS(ctx context.Context, network, address string) (net.Conn, error) {
	return d.herd.connect(ctx, address, func() (net.Conn, error) { return d.dialTLS(ctx, network, address) })
}

func (d *dialer) dialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	plain, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	cfg := d.secured.Clone()
	cfg.ServerName, _, _ = net.SplitHostPort(address) // it was dialled
	conn := tls.Client(newSocket(plain), cfg)
	limited, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := conn.HandshakeContext(limited); err != nil {
		_ = plain.Close() // the other error is the one that matters
		if limited.Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("no TLS handshake within %s", dialTimeout)
		}
		return nil, err
	}
	return conn, nil
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	out := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	_, proxy := d.proxies.Load(address)
	own := strings.EqualFold(address, d.origin)
	if !d.loopback && !proxy && !own {
		out.ControlContext = d.refuseForbidden
	}
	conn, err := out.DialContext(ctx, network, address)
	if err == nil && own && !proxy {
		to, _ := netip.ParseAddrPort(conn.RemoteAddr().String()) // zero is nobody's address
		d.reached.Store(to.Addr())
	}
	return conn, err
}

// refuseForbidden is called with each address that a name resolved to.
func (d *dialer) refuseForbidden(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || regauth.ForbiddenAddress(to.Addr()) || !published(to.Port()) && d.isOwn(to.Addr()) && !d.isHere() {
		return fmt.Errorf("%w: %s", regauth.ErrForbiddenHop, address)
	}
	return nil
}

// published reports whether what listens on a port of a node is for everybody:
// ingress controllers and services with a node port. A registry's storage may be
// behind one. kubelet, etcd and exporters are not.
func published(port uint16) bool { return port == 80 || port == 443 || port >= 30000 && port <= 32767 }

// isHere reports whether the upstream was reached at an address of this machine: its
// storage may be here too.
func (d *dialer) isHere() bool {
	at, ok := d.reached.Load().(netip.Addr)
	return ok && (at.Unmap().IsLoopback() || d.isOwn(at))
}

// isOwn reports whether an address is this machine's, now: interfaces come and go.
func (d *dialer) isOwn(ip netip.Addr) bool {
	has := func(addresses []net.Addr) bool {
		return slices.ContainsFunc(addresses, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr().Unmap().WithZone("") == ip.Unmap().WithZone("")
		})
	}
	all, err := d.own()
	if err != nil || !has(all) {
		return false // better a hop too many than a pull that fails
	}
	// kube-proxy puts the addresses of all Services on an interface of each node.
	services, err := net.InterfaceByName("kube-ipvs0")
	if err != nil {
		return true
	}
	of, err := services.Addrs()
	return err != nil || !has(of)
}

// addressOf is what net/http dials for a URL.
func addressOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "http":
			port = "80"
		case "https":
			port = "443"
		case "socks5", "socks5h":
			port = "1080"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
