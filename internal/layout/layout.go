package layout

import "github.com/d8-registry/registry/internal/upstream"

// Schema is the version of the layout's encoding that this program writes, and
// the highest that it reads.
const Schema = 1

// Name is what image references start with: a host and, on a path boundary, a
// repository prefix. It is a comparable value.
type Name struct {
	Host string // as in image references: "registry.d8-system.svc:5001"
	Path string // without leading or trailing slash: "system/deckhouse"; may be empty
}

// Fixed is the one address that names every platform image outside Unmanaged.
func Fixed() Name { return Name{Host: "registry.d8-system.svc:5001", Path: "system/deckhouse"} }

// NameOf is the real address of an upstream as a name.
func NameOf(u upstream.Upstream) Name { return Name{Host: u.Host, Path: u.Path} }

// String is host and path with a slash between, as image references start.
func (n Name) String() string {
	if n.Path == "" {
		return n.Host
	}
	return n.Host + "/" + n.Path
}

// Route is one name and the upstreams that serve it, in the order in which
// they are tried. A route without upstreams is invalid.
type Route struct {
	Name      Name
	Upstreams []upstream.Upstream
}

// Layout is names × upstreams, as published to nodes and proxies. It is a
// value: functions return new ones and never change what they were given.
type Layout struct {
	// Schema is the version of the encoding; see the constant.
	Schema int
	// Generation orders layouts: a reader never goes back to a lower one.
	// 0 means that nothing was ever published.
	Generation int64
	// Mode is the mode being worked on, "Direct" or "Unmanaged"; ActiveMode is
	// the last one that was Ready. A lost state is rebuilt from them.
	Mode, ActiveMode string
	// Active and Target are the upstreams of the last mode that was Ready and
	// of the one being worked on. A node must reach Target's before it
	// reports; Active's real address stays usable when the agent is down.
	Active, Target upstream.Upstream
	// SecondWay is how nodes reach the in-cluster proxy when their own agent is
	// down; zero while there is none.
	SecondWay SecondWay
	// Routes are sorted by name, each name once.
	Routes []Route
}

// SecondWay is the in-cluster proxy as nodes reach it: by the Service's IP,
// because node DNS does not know cluster names.
type SecondWay struct {
	Host        string               // IP and port: "10.96.0.17:5001"
	CA          string               // PEM of the module's CA
	Credentials upstream.Credentials // the nodes' user, not the in-cluster clients' one
}
