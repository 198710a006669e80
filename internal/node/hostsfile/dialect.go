package hostsfile

import (
	"cmp"
	"net"
	"strings"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/upstream"
)

// Dialect is how a version of containerd reads hosts.toml.
type Dialect struct {
	name        string // "containerd 1.7.20"
	old         bool   // 1.x: an older library for TOML
	needsHost   bool   // a file without a table [host] is ignored
	referrers   bool   // the capability
	dialTimeout bool   // the key
	plainLocal  bool   // asks localhost by HTTP whatever the port
}

// For is the dialect of a version, such as "v2.4.2" or "1.6.20~ds1"; of the newest
// if it is empty.
func For(version string) Dialect {
	version = cmp.Or(version, "2.4")
	older := func(than ...int) bool { return containerd.Older(version, than...) }
	return Dialect{
		name:        "containerd " + strings.TrimPrefix(version, "v"),
		old:         older(2, 0),
		needsHost:   older(1, 7, 32),
		referrers:   !older(2, 2),
		dialTimeout: !older(2, 1),
		plainLocal:  older(1, 6, 25) || !older(1, 7) && older(1, 7, 8),
	}
}

// String names the version.
func (d Dialect) String() string { return d.name }

// Headers reports whether [host."URL"] can be the header of a table. containerd 1.x
// cannot read one with brackets, which IPv6 has, and ignores the whole file; it
// reads such a host from dotted keys below [host]. containerd 2 sees no host
// without a header.
func (d Dialect) Headers(url string) bool { return !d.old || !strings.ContainsAny(url, "[]") }

// Itself is the address that containerd asks for a host's images if no file says
// otherwise, and whether it takes any certificate from it.
func (d Dialect) Itself(host string) (url string, skipVerify bool) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	ip := net.ParseIP(name)
	switch {
	case host == upstream.DockerHub:
		return "https://" + upstream.HostOfAPI(host), false
	case name != "localhost" && (ip == nil || !ip.IsLoopback()):
		return "https://" + host, false
	case d.plainLocal:
		return "http://" + host, true
	case port == "" || port == "443":
		return "https://" + host, true
	default:
		return "http://" + host, port != "80"
	}
}
