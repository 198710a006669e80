package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
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
}

func newDialer(origin *url.URL) *dialer {
	return &dialer{origin: addressOf(origin), loopback: regauth.IsLoopback(origin.Hostname())}
}

// proxy is http.ProxyFromEnvironment and remembers its answers.
func (d *dialer) proxy(req *http.Request) (*url.URL, error) {
	via, err := http.ProxyFromEnvironment(req) // never for loopback
	if via != nil {
		d.proxies.Store(addressOf(via), true)
	}
	return via, err
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	out := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	_, proxy := d.proxies.Load(address)
	if !d.loopback && !proxy && !strings.EqualFold(address, d.origin) {
		out.ControlContext = refuseForbidden
	}
	return out.DialContext(ctx, network, address)
}

// refuseForbidden is called with each address that a name resolved to.
func refuseForbidden(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || regauth.ForbiddenAddress(to.Addr()) {
		return fmt.Errorf("%w: %s", regauth.ErrForbiddenHop, address)
	}
	return nil
}

// addressOf is what net/http dials for a URL.
func addressOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}
