package regauth

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
)

// ErrForbiddenHop is returned for an address that an upstream names (a token
// realm, the target of a redirect) and that we do not go to.
var ErrForbiddenHop = errors.New("forbidden address")

// ValidateHop says whether a registry at from may send us to to. A registry,
// or who speaks in its name, must not make us ask the node's own services or
// the cloud's metadata address. The path and the query of to are never part of
// the error: signed URLs are secrets.
func ValidateHop(from, to *url.URL) error {
	if to.Scheme != "https" && to.Scheme != "http" {
		return fmt.Errorf("%w: scheme %q", ErrForbiddenHop, to.Scheme)
	}
	if to.Hostname() == "" || to.User != nil || to.Opaque != "" {
		return fmt.Errorf("%w: not a plain host", ErrForbiddenHop)
	}
	ip, err := netip.ParseAddr(to.Hostname())
	if err != nil {
		return nil // a DNS name
	}
	ip = ip.Unmap()
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || (ip.IsLoopback() && !isLoopback(from)) {
		return fmt.Errorf("%w: %s", ErrForbiddenHop, to.Host)
	}
	return nil
}

// SameOrigin reports whether both are the same scheme, host and port, which is
// how far credentials may go.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

func isLoopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
}
