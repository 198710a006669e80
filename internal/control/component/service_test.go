package component

import (
	"maps"
	"testing"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestWhoIsBehindRegistry: the proxy, stores, and both while one takes the place of the other.
func TestWhoIsBehindRegistry(t *testing.T) {
	t.Parallel()
	proxy := map[string]string{"app": "registry-incluster-proxy"}
	stores := map[string]string{"component": "registry-service", "type": "node-services"}
	both := map[string]string{"component": "registry-service"}
	for name, tc := range map[string]struct {
		proxy, store bool
		alone        switchover.Role
		want         map[string]string
	}{
		"nobody":                          {false, false, 0, nil},
		"Direct":                          {true, false, 0, proxy},
		"Direct, stores come":             {true, true, 0, both},
		"to Proxy, the platform moves":    {true, true, switchover.NodeServices, stores},
		"Proxy":                           {false, true, switchover.NodeServices, stores},
		"Proxy from Unmanaged":            {false, true, 0, stores},
		"back to Direct, the proxy comes": {true, true, switchover.Agents, both},
		"back to Direct, it moves":        {true, true, switchover.InClusterProxy, proxy},
		"to Unmanaged, the proxy goes":    {false, true, switchover.InClusterProxy, stores},
	} {
		var doc state.Document
		doc.Desired.Proxy = tc.proxy
		if tc.store {
			doc.Desired.Store = switchover.Store{Revision: 1, Alone: tc.alone}
		}
		if got := behindRegistry(doc); !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestTheServiceStays: its address is known to nodes, so it stays when stores take the proxy's place.
func TestTheServiceStays(t *testing.T) {
	t.Parallel()
	b := newBench(t, server.Start(t), inClusterProxy(Config{}))
	apply := func() {
		t.Helper()
		if err := b.keeper.ApplyFirst(t.Context(), b.look()); err != nil {
			t.Fatal(err)
		}
	}
	b.doc.Desired.Proxy = true
	apply()
	was := b.look().OwnService(v1alpha1.ServiceRegistry)
	b.doc.Desired.Store = switchover.Store{Revision: 1, Alone: switchover.NodeServices}
	apply()
	b.doc.Desired.Proxy = false
	apply()
	is := b.look().OwnService(v1alpha1.ServiceRegistry)
	if was == nil || is == nil || is.UID != was.UID || is.Spec.ClusterIP != was.Spec.ClusterIP || !maps.Equal(is.Spec.Selector, behindRegistry(b.doc)) {
		t.Errorf("%+v became %+v", was, is)
	}
	if b.look().Inventory.OwnWorkload("Deployment", v1alpha1.DeploymentProxy) != nil {
		t.Error("the proxy stays")
	}
	b.doc.Desired.Store = switchover.Store{}
	apply()
	if b.look().OwnService(v1alpha1.ServiceRegistry) != nil {
		t.Error("the Service stays, and nobody is behind it")
	}
}
