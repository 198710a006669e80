package uninstall

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
)

// cleanupAgents has agents clear the folder that each keeps on its node, and
// removes them. An agent that does not answer is named and not waited for: its
// folder does no harm.
func (u *uninstaller) cleanupAgents(ctx context.Context) error {
	ds, err := cluster.Get[appsv1.DaemonSet](ctx, u.client, cluster.Here(v1alpha1.DaemonSetAgent))
	switch {
	case err != nil:
		return err
	case ds == nil:
	case !cluster.IsOurs(ds):
		return refused("DaemonSet d8-system/%s is not the module's: it has no label %s=%s", ds.Name, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
	default:
		if err := u.cleanupFolders(ctx); err != nil {
			return err
		}
		if err := u.delete(ctx, ds); err != nil {
			return err
		}
	}
	return u.until(ctx, func(ctx context.Context) (string, error) { return u.podsOf(ctx, v1alpha1.DaemonSetAgent) })
}

// cleanupFolders gives the order, and waits as long as one more agent carries it
// out within AgentTimeout.
func (u *uninstaller) cleanupFolders(ctx context.Context) error {
	pending, err := u.orderCleanup(ctx)
	for err == nil && len(pending) > 0 {
		var now []string
		limited, cancel := context.WithTimeout(ctx, u.cfg.AgentTimeout)
		waitErr := u.until(limited, func(ctx context.Context) (string, error) {
			var err error
			if now, err = u.orderCleanup(ctx); err != nil || len(now) < len(pending) {
				return "", err
			}
			return "Waiting for the agents of " + strings.Join(now, ", ") + " to clear their folder.", nil
		})
		cancel()
		switch {
		case waitErr != nil && ctx.Err() == nil && errors.Is(waitErr, context.DeadlineExceeded):
			u.say("Agents of these nodes do not clear their folder, remove /var/lib/registry-agent there by hand: %s.", strings.Join(pending, ", "))
			return nil
		case waitErr != nil:
			return waitErr
		}
		pending = now
	}
	return err
}

// orderCleanup orders every agent to clear its folder, and returns the Ready
// nodes where that is not done.
func (u *uninstaller) orderCleanup(ctx context.Context) ([]string, error) {
	ready, err := u.readyNodes(ctx)
	if err != nil {
		return nil, err
	}
	var nodes v1alpha1.RegistryNodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list RegistryNodes: %w", err)
	}
	var pending []string
	for i := range nodes.Items {
		rn := &nodes.Items[i]
		if !rn.Spec.Leave {
			err := u.client.Patch(ctx, rn, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"leave":true}}`)), owner)
			if client.IgnoreNotFound(err) != nil {
				return nil, fmt.Errorf("order RegistryNode %s to leave: %w", rn.Name, err)
			}
		}
		if ready[rn.Name] && !rn.Status.Left {
			pending = append(pending, rn.Name)
		}
	}
	return pending, nil
}
