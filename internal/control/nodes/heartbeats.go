package nodes

import (
	"context"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// heartbeats are when the agents' Leases changed last, as this process saw it:
// clocks of nodes may be wrong. A pass follows only from that of an agent that was silent.
type heartbeats struct {
	now func() time.Time

	mu    sync.Mutex
	heard map[string]time.Time // by the Lease's name
}

// FollowHeartbeats notes from now on when agents are heard.
func (k *Keeper) FollowHeartbeats(ctx context.Context, from cache.Cache) error {
	informer, err := from.GetInformer(ctx, &coordinationv1.Lease{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("follow Leases: %w", err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { k.heartbeats.hear(o) },
		UpdateFunc: func(before, o any) {
			if versionOf(before) != versionOf(o) && k.heartbeats.hear(o) {
				k.cluster.Wake()
			}
		},
		DeleteFunc: k.heartbeats.forget,
	})
	if err != nil {
		return fmt.Errorf("follow Leases: %w", err)
	}
	return nil
}

func versionOf(o any) string {
	if object, ok := o.(client.Object); ok {
		return object.GetResourceVersion()
	}
	return ""
}

// hear notes that an agent is heard now, and reports whether it was silent before.
func (h *heartbeats) hear(o any) (wasSilent bool) {
	lease, ok := o.(client.Object)
	if !ok {
		return false
	}
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.heard[lease.GetName()]
	h.heard[lease.GetName()] = now
	return known && now.Sub(before) > v1alpha1.SilentAfter
}

func (h *heartbeats) forget(o any) {
	if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	if lease, ok := o.(client.Object); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.heard, lease.GetName())
	}
}

// of is when the agent of a node was heard last; zero if it has no Lease, as one of
// an older version has none.
func (h *heartbeats) of(node string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard[v1alpha1.LeaseOfAgent(node)]
}

// NextSilence is the time until the next agent counts as silent; 0 when there is none
// that could.
func NextSilence(o switchover.Observed) time.Duration {
	var next time.Duration
	for _, n := range o.Nodes {
		if n.Heard.IsZero() || !n.Agent {
			continue
		}
		if left := v1alpha1.SilentAfter - o.Now.Sub(n.Heard); left >= 0 {
			next = state.Soonest(next, left+time.Second)
		}
	}
	return next
}
