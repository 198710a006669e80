package regauth

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// ErrForbiddenHop is returned for an address that an upstream names (a token
// realm, the target of a redirect) and that we do not go to.
var ErrForbiddenHop = errors.New("forbidden address")

// ValidateHop says whether a registry at from may send us to to. No registry may
// make us ask the node's own services or the cloud's metadata address. What a
// DNS name leads to is only known when it is dialled: see ForbiddenAddress. The
// path and the query of to are never part of the error: signed URLs are secrets.
func ValidateHop(from, to *url.URL) error {
	if to.Scheme != "https" && to.Scheme != "http" {
		return fmt.Errorf("%w: scheme %q", ErrForbiddenHop, to.Scheme)
	}
	if to.Hostname() == "" || to.User != nil || to.Opaque != "" {
		return fmt.Errorf("%w: not a plain host", ErrForbiddenHop)
	}
	if IsLoopback(to.Hostname()) && IsLoopback(from.Hostname()) {
		return nil
	}
	ip, err := netip.ParseAddr(to.Hostname())
	if IsLoopback(to.Hostname()) || err == nil && ForbiddenAddress(ip) {
		return fmt.Errorf("%w: %s", ErrForbiddenHop, to.Host)
	}
	return nil
}

// ForbiddenAddress reports whether an address is one that no registry may send
// us to: this machine, its links, a cloud's metadata. Private networks are
// where registries live.
func ForbiddenAddress(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return true
	}
	// Metadata that is not link-local: Alibaba's, AWS's and Google's for IPv6.
	return slices.Contains([]string{"100.100.100.200", "fd00:ec2::254", "fd20:ce::254"}, ip.String())
}

// IsLoopback reports whether a host name or IP, without a port, means this
// machine.
func IsLoopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.Contains([]string{"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}, host) ||
		strings.HasSuffix(host, ".localhost") // RFC 6761
}

// SameOrigin reports whether both have the same scheme, host and port. Credentials
// stay within an origin. Host names know no case.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// SameServer reports whether credentials for from may be shown at to: within an
// origin, and where a registry sends from plain HTTP to HTTPS on the ports that both
// have without saying so. The name is the same, and now its certificate proves it.
func SameServer(from, to *url.URL) bool {
	return SameOrigin(from, to) || from.Scheme == "http" && to.Scheme == "https" &&
		strings.EqualFold(from.Hostname(), to.Hostname()) && port(from) == "80" && port(to) == "443"
}

func port(u *url.URL) string {
	if u.Scheme == "https" {
		return cmp.Or(u.Port(), "443")
	}
	return cmp.Or(u.Port(), "80")
}
