package layout

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/upstream"
)

// MaxStores bounds the stores of a layout: a pull may ask them all.
const MaxStores = 9

// Stores are where a reader asks first, before the upstreams of a route. They are no
// upstreams: no rule of a union counts them, and they may change with any generation.
type Stores struct {
	Endpoints   []string             `json:"endpoints,omitempty"`  // IP and port of each, sorted
	CA          string               `json:"ca,omitempty"`         // PEM of the module's CA
	Credentials upstream.Credentials `json:"credentials,omitzero"` // the nodes' user
}

// IsZero reports whether there are none.
func (s Stores) IsZero() bool {
	return len(s.Endpoints) == 0 && s.CA == "" && s.Credentials.IsZero()
}

func (s Stores) same(o Stores) bool {
	return s.CA == o.CA && s.Credentials == o.Credentials && slices.Equal(s.Endpoints, o.Endpoints)
}

// validate wants addresses and nothing that a name server or a system's CA could change:
// what a store says of content is believed as little as what an upstream says, but its user
// can read everything.
func (s Stores) validate() error {
	switch {
	case s.IsZero():
		return nil
	case len(s.Endpoints) == 0 || len(s.Endpoints) > MaxStores:
		return fmt.Errorf("%d endpoints, and 1 to %d may be", len(s.Endpoints), MaxStores)
	case s.CA == "":
		return errors.New("no CA")
	}
	for i, endpoint := range s.Endpoints {
		at, err := netip.ParseAddrPort(endpoint)
		if err != nil || at.String() != endpoint || at.Port() == 0 || at.Addr().IsUnspecified() || at.Addr().Is4In6() || at.Addr().Zone() != "" {
			return fmt.Errorf("endpoint %d is no IP and port, written as usual", i+1)
		}
		if i > 0 && s.Endpoints[i-1] >= endpoint {
			return fmt.Errorf("endpoint %d is not in order", i+1)
		}
	}
	u := upstream.Upstream{Host: s.Endpoints[0], Scheme: upstream.HTTPS, CA: s.CA, Credentials: s.Credentials}
	return u.Validate() //nolint:wrapcheck // the caller says whose it is
}

// LogValue keeps slog's JSON handler from encoding the credentials.
func (s Stores) LogValue() slog.Value { return slog.StringValue(strings.Join(s.Endpoints, " ")) }
