package controller

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
)

// nodeStores joins the stores of nodes with the rest of a pass.
type nodeStores struct {
	cfg     *Config
	cluster *cluster.Client
	keeper  *stores.Keeper
	// pull is (*component.Keeper).Pull.
	pull func(ctx context.Context, doc state.Document, host, dial string) error

	// proved is the last generation with a successful pull, by endpoint. After a restart it is
	// found out again.
	proved map[string]int64
}

// wish is what follows from the document and the cluster: without layout and pins. With an error
// it is without users too.
func (n *nodeStores) wish(v *state.View) (stores.Wish, error) {
	cfg := n.cfg.Stores
	w := stores.Wish{
		Nodes: stores.Nodes(v.Snapshot), None: v.Doc.Desired.Store.IsZero(),
		Pod:    pod.Store{Port: cfg.Port, Path: cfg.Path, Quota: cfg.Quota, Floor: cfg.Floor, TTL: v.Doc.Desired.Store.TTL},
		Images: map[string]string{}, Silent: map[string]time.Time{},
	}
	for _, node := range v.Observed.Nodes {
		if node.IsSilent(v.Observed.Now) {
			w.Silent[node.Name] = node.Heard
		}
	}
	if w.None {
		return w, nil
	}
	for pod := range v.Inventory.OwnPods() {
		if pod.IsAgent() && pod.Running && pod.GetDeletionTimestamp() == nil && len(pod.Images) > 0 {
			w.Images[pod.Node] = pod.Images[0]
		}
	}
	w.CA, w.Trusted = v.Doc.PKI.CA, v.Doc.PKI.Trusted()
	w.Names = pki.ServiceNames(n.cfg.ClusterDomain)
	if service := v.OwnService(v1alpha1.ServiceRegistry); service != nil {
		w.Names = pki.ServiceNames(n.cfg.ClusterDomain, service.Spec.ClusterIPs...)
	}
	var err error
	w.Users, err = component.Users(v.Doc)
	return w, err //nolint:wrapcheck // it says what it was doing
}

// pins are the images in use: the platform's before those of others.
func pins(census switchover.Census) []string {
	var platform, others []string
	for _, r := range census.References {
		if r.Foreign || r.Ignored {
			others = append(others, r.Image)
		} else {
			platform = append(platform, r.Image)
		}
	}
	return stores.Pins(census.Required, platform, others)
}

// observe says how the stores are, against the stored document. It may pull through them, which
// can take a few seconds.
func (n *nodeStores) observe(ctx context.Context, v *state.View) {
	o := &v.Observed
	o.StorePublished = state.LayoutIn(v.OwnSecret(v1alpha1.SecretStore), v1alpha1.KeyProxyLayout)
	w, err := n.wish(v)
	if o.Store = n.keeper.Seen(v.Snapshot, w, o.Now); err != nil {
		o.Store.Message = cmp.Or(o.Store.Message, err.Error())
	}
	if w.None || v.Doc.Active != v.Doc.Target {
		n.keeper.Forget()
	} else {
		v.WakeIn(n.keeper.Settle(v.Snapshot, w, &o.Store, o.Now))
	}
	v.Identity.Behind = append(v.Identity.Behind, w.Behind(v.Snapshot, n.now(v))...)
	for node, uses := range stores.OldUses(v.Snapshot) {
		v.Identity.AddUses(node, uses)
	}
	if node, ok := v.Doc.User(state.UserNode); ok {
		o.Store.Reach = layout.Stores{CA: v.Doc.PKI.Trusted(), Credentials: node.Credentials}
	}
	n.prove(ctx, v)
}

// prove pulls our own image through each store that serves, and through Service registry while
// it leads to them, once for each generation that all have.
func (n *nodeStores) prove(ctx context.Context, v *state.View) {
	s, want := &v.Observed.Store, v.Doc.Desired
	maps.DeleteFunc(n.proved, func(at string, _ int64) bool {
		return !slices.Contains(s.Endpoints, at) && at != v.Observed.Proxy.Fallback.Host
	})
	if want.Store.IsZero() || s.Ready == 0 || s.Generation < want.StoreLayout.Generation {
		return
	}
	dial := map[string]string{}
	for _, at := range s.Endpoints {
		dial[at] = n.cfg.StoresAt[at]
	}
	if service := v.Observed.Proxy.Fallback.Host; service != "" && (!want.Proxy || want.Store.Alone == switchover.NodeServices) {
		dial[service] = n.cfg.ProxyDial
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	var failed []string
	for at, by := range dial {
		if n.proved[at] == s.Generation {
			continue
		}
		all.Go(func() {
			err := n.pull(ctx, v.Doc, at, by)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, fmt.Sprintf("pull through %s: %v", at, err))
				return
			}
			n.proved[at] = s.Generation
		})
	}
	all.Wait()
	if len(failed) > 0 {
		slices.Sort(failed)
		s.Message, v.Again = cmp.Or(s.Message, strings.Join(failed, "; ")), true
		return
	}
	s.Pulled = s.Generation
}

// apply asks nodes for what the document says.
func (n *nodeStores) apply(ctx context.Context, v *state.View) error {
	w, err := n.wish(v)
	if err != nil {
		return err
	}
	if !w.None {
		if w.Layout, err = state.StoreLayout(v); err != nil {
			return err //nolint:wrapcheck // it says what it was doing
		}
		w.Pins, w.Switching = pins(v.Observed.Census), v.Doc.Active != v.Doc.Target
	}
	refused, err := n.keeper.Apply(ctx, v.Snapshot, w, n.now(v))
	for node, err := range refused {
		v.Refuse(node, err)
	}
	return err //nolint:wrapcheck // likewise
}

// now is the API server's time, by which certificates are judged.
func (n *nodeStores) now(v *state.View) time.Time { return v.Observed.Now.Add(n.cluster.Clock.Skew()) }
