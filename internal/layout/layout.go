package layout

import (
	"log/slog"

	"github.com/d8-registry/registry/internal/upstream"
)

// Schemas of the encoding.
const (
	// Schema is that of a Layout, and of the documented form, in which each mirror
	// has its CA and its credentials with it.
	Schema = 1
	// Newest is the highest that this program reads. Only readers that say so are
	// given it; see EncodeFor.
	Newest = 2
)

// Modes that readers of a layout know by name.
const (
	// Unmanaged: platform images are named by the registry's own address, and nodes can
	// do without the module.
	Unmanaged = "Unmanaged"
	// Proxy: stores stay. In a layout of another mode they are on their way out.
	Proxy = "Proxy"
)

// Route is one name and the upstreams that serve it, in the order in which
// they are tried. A route without upstreams is invalid.
type Route struct {
	Name      Name                `json:"name"`
	Upstreams []upstream.Upstream `json:"upstreams"`
}

// Layout is names × upstreams, as published to nodes and proxies. It is a
// value: functions return new ones and never change what they were given.
type Layout struct {
	// Schema is always the constant: that of the encoding is not part of a layout.
	Schema int `json:"schema"`
	// Generation orders layouts: a reader never goes back to a lower one.
	// 0 means that nothing was ever published.
	Generation int64 `json:"generation"`
	// Mode is the mode being worked on, as "Direct" or "Unmanaged"; ActiveMode is
	// the last one that was Ready. A lost state is rebuilt from them.
	Mode       string `json:"mode,omitempty"`
	ActiveMode string `json:"activeMode,omitempty"`
	// Active and Target are the upstreams of the last mode that was Ready and
	// of the one being worked on. A node must reach Target's before it
	// reports; Active's real address stays usable when the agent is down.
	Active upstream.Upstream `json:"active,omitzero"`
	Target upstream.Upstream `json:"target,omitzero"`
	// Probe is an image below Target's path that Target must have, in the form of
	// ManifestOf. A reader fetches it from Target alone before it reports: any other
	// upstream may serve all the names. Empty in the layouts of older controllers: then
	// Target only has to answer.
	Probe string `json:"probe,omitempty"`
	// Fallback is how nodes reach the in-cluster proxy when their own agent is
	// down; zero while there is none.
	Fallback Fallback `json:"secondWay,omitzero"`
	// Stores are asked first, where there are any.
	Stores Stores `json:"stores,omitzero"`
	// Routes are sorted by name, each name once.
	Routes []Route `json:"routes,omitempty"`
}

// Fallback is the in-cluster proxy as nodes reach it: by the Service's IP,
// because node DNS does not know cluster names.
type Fallback struct {
	Host        string               `json:"host"`                 // IP and port: "10.96.0.17:5001"
	CA          string               `json:"ca,omitempty"`         // PEM of the module's CA
	Credentials upstream.Credentials `json:"credentials,omitzero"` // the nodes' user, not the in-cluster clients' one
}

// ImagesBase is what platform images start with once the target is reached.
func (l Layout) ImagesBase() Name {
	if l.WithoutFixedAddress() {
		return NameOf(l.Target)
	}
	return Fixed()
}

// WithoutFixedAddress reports whether the layout is of a mode in which the
// cluster does without the fixed address, and so may go on without any layout.
func (l Layout) WithoutFixedAddress() bool { return l.Mode == Unmanaged }

// FallbackProved reports whether the in-cluster proxy stands in for an agent that
// is down: it is published as soon as its address is known, and was seen serving
// once a mode that has it was Ready.
func (l Layout) FallbackProved() bool {
	return l.Fallback != (Fallback{}) && l.ActiveMode != "" && l.ActiveMode != Unmanaged
}

// IsZero reports whether there is no layout at all.
func (l Layout) IsZero() bool { return l.Generation == 0 && len(l.Routes) == 0 }

// LogValue keeps slog's JSON handler from encoding the credentials.
func (l Layout) LogValue() slog.Value {
	return slog.GroupValue(slog.Int64("generation", l.Generation), slog.String("mode", l.Mode), slog.Int("names", len(l.Routes)))
}

// LogValue keeps slog's JSON handler from encoding the credentials.
func (w Fallback) LogValue() slog.Value { return slog.StringValue(w.Host) }
