package report

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Heartbeat renews the Lease of this node as long as the agent makes progress. A
// report says nothing while nothing changes, so that a silent agent and one that is
// content look the same without it. A Lease is small, and nobody acts on each change.
type Heartbeat struct {
	Kube     dynamic.Interface
	Node     string
	Reporter *Reporter
	// Alive is an error when the agent has hung.
	Alive func() error
	Log   *slog.Logger
}

// Run renews until the context ends. The pauses differ, so that nodes that started
// at the same time do not stay in step.
func (h Heartbeat) Run(ctx context.Context) {
	for {
		pause := registryv1alpha1.HeartbeatEvery * 9 / 10
		pause += rand.N(registryv1alpha1.HeartbeatEvery / 5) //nolint:gosec // G404: it only spreads the writes
		if own := h.Reporter.Latest(); own == nil {
			pause = time.Second // the first one should come soon
		} else if err := h.beat(ctx, own); err != nil && ctx.Err() == nil {
			h.Log.Warn("no heartbeat", "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// beat renews the Lease, or makes it. It goes with the RegistryNode, which goes with
// the Node. On the way out of the node there is none any more.
func (h Heartbeat) beat(ctx context.Context, own *registryv1alpha1.RegistryNode) error {
	if err := h.Alive(); err != nil || own.Spec.Leave {
		return err
	}
	name := registryv1alpha1.LeaseOfAgent(h.Node)
	lease := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"holderIdentity":       h.Node,
		"leaseDurationSeconds": int64(registryv1alpha1.SilentAfter / time.Second),
		"renewTime":            time.Now().UTC().Format(metav1.RFC3339Micro), // for people: the controller has its own clock
	}}}
	lease.SetAPIVersion(coordinationv1.SchemeGroupVersion.String())
	lease.SetKind("Lease")
	lease.SetNamespace(registryv1alpha1.Namespace)
	lease.SetName(name)
	lease.SetLabels(map[string]string{registryv1alpha1.LabelApp: registryv1alpha1.DaemonSetAgent})
	lease.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: registryv1alpha1.GroupVersion().String(), Kind: "RegistryNode", Name: own.Name, UID: own.UID,
	}})
	leases := h.Kube.Resource(coordinationv1.SchemeGroupVersion.WithResource("leases")).Namespace(registryv1alpha1.Namespace)
	if _, err := leases.Apply(ctx, name, lease, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return fmt.Errorf("renew Lease %s: %w", name, err)
	}
	return nil
}
