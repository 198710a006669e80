package routes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	// standInTime is how long all stores together may take.
	standInTime = 10 * time.Second
	// nextStore is after what time the next one is asked too: one that is silent costs no more.
	nextStore = time.Second
)

// StandIns are the stores of a layout that may prove its target where the target does not serve:
// those that stay. A node that has no other way to the registry must not prove a layout whose mode
// takes the stores away.
func StandIns(l layout.Layout) []string {
	if l.Mode != layout.Proxy || l.Probe == "" {
		return nil
	}
	return l.Stores.Endpoints
}

// StandIn is Prove on the way that a pull takes: which store serves the target's image here, for a
// node of a name. It must know this very target, credentials included, and have proved it alone:
// what it serves may be kept, or another registry's.
//
// Of the target that the cluster has settled on it only has to know: so it is with Prove, and the
// registry may be gone for good. With an error the store is the one that it is of, the first.
func StandIn(ctx context.Context, l layout.Layout, name string) (store string, err error) {
	order := owner.Of(name, StandIns(l))
	if len(order) == 0 {
		return "", errors.New("it has no store")
	}
	ctx, cancel := context.WithTimeout(ctx, standInTime)
	defer cancel()
	type answer struct {
		of  int
		err error
	}
	answers := make(chan answer, len(order))
	var first error
	for asked, failed := 0, 0; failed < len(order); {
		var next <-chan time.Time
		if of := asked; of < len(order) {
			go func() { answers <- answer{of, standsIn(ctx, l, order[of])} }()
			asked, next = asked+1, time.After(nextStore)
		}
		select {
		case a := <-answers:
			if a.err == nil {
				return order[a.of], nil
			}
			if failed++; a.of == 0 {
				first = a.err
			}
		case <-next:
		}
	}
	return order[0], first
}

func standsIn(ctx context.Context, l layout.Layout, endpoint string) error {
	m := atStore(endpoint, l.Stores.CA)
	m.Credentials, m.Header = l.Stores.Credentials, map[string][]string{oci.HeaderTarget: {ProofOf(l)}}
	reached, err := transport.ForStore(m)
	if err != nil {
		return fmt.Errorf("reach it: %w", err)
	}
	defer reached.CloseIdleConnections()
	asked := &throughStore{endpoint: endpoint, target: l.Target, settled: l.Active == l.Target, next: reached}
	err = judge.Registry{Upstream: l.Target, Transport: asked}.Image(ctx, l.Probe, []string{runtime.GOARCH})
	if asked.settled && asked.knows {
		return nil
	}
	return err //nolint:wrapcheck // it is about the store
}

// throughStore asks a store for what is the target's.
type throughStore struct {
	endpoint string
	target   upstream.Upstream
	settled  bool
	next     http.RoundTripper
	knows    bool // it has said so
}

func (s *throughStore) RoundTrip(req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context()) // a RoundTripper must not change what it was given
	out.URL.Scheme, out.URL.Host, out.Host = string(upstream.HTTPS), s.endpoint, ""
	out.URL.RawQuery = "ns=" + url.QueryEscape(s.target.Host)
	resp, err := s.next.RoundTrip(out)
	if err != nil {
		return nil, err //nolint:wrapcheck // as a Transport's
	}
	said := resp.Header.Get(oci.HeaderTarget)
	s.knows = s.knows || said == oci.TargetKnown || said == oci.TargetProved
	if resp.StatusCode == http.StatusOK && said != oci.TargetProved && (!s.settled || !s.knows) {
		_ = resp.Body.Close() // it is no proof
		why := "serves, and does not know the target"
		if s.knows {
			why = "has not proved the target yet"
		}
		return nil, judge.Errorf(judge.Nonsense, "%s", why)
	}
	if resp.Request == out {
		resp.Request = req // so that it is not taken for one that was sent elsewhere
	}
	return resp, nil
}

// LeadsTo reports whether a layout serves the name of a registry by that registry: of is what
// ProofOf says of it.
func LeadsTo(l layout.Layout, of string) bool {
	id, _, _ := strings.Cut(of, " ")
	return slices.ContainsFunc(l.Routes, func(r layout.Route) bool {
		return slices.ContainsFunc(r.Upstreams, func(u upstream.Upstream) bool {
			return r.Name == layout.NameOf(u) && u.Lasting().ID() == id
		})
	})
}
