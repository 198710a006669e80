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
	if v4, ok := embedded(ip); ok && ForbiddenAddress(v4) {
		return true
	}
	return slices.ContainsFunc(forbidden(), func(p netip.Prefix) bool { return p.Contains(ip) })
}

// forbidden are the networks that no method of netip.Addr knows. Metadata is mostly
// link-local; these are the rest.
func forbidden() []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{}), 8),                       // 0.0.0.0/8 is this machine
		netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 32),    // everybody on the link
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 0, 0}), 24),          // of protocols; Oracle's metadata
		netip.PrefixFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 32),      // Azure
		netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 100, 100, 200}), 32),    // Alibaba
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0x0e, 0xc2}), 32), // AWS: fd00:ec2::/32
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x20, 0, 0xce}), 64), // Google: fd20:ce::254
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x42}), 64),    // Scaleway: fd00:42::42
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfe, 0xc0}), 10),          // site-local, given up long ago
	}
}

// embedded is the IPv4 address to which an IPv6 address is translated on its way:
// by NAT64 (64:ff9b::/96), 6to4 (2002::/16), or as ::a.b.c.d.
func embedded(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() {
		return netip.Addr{}, false
	}
	b := ip.As16()
	switch {
	case netip.PrefixFrom(netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b}), 96).Contains(ip), netip.PrefixFrom(netip.IPv6Unspecified(), 96).Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:])), true
	case netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x02}), 16).Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
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
