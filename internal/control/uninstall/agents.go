package uninstall

import (
	"context"
	"errors"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// dismissAgents has agents clear the folder that each keeps on its node, and
// removes them. The folder says nothing to anybody without an agent, so one
// that does not answer is named and not waited for.
func (u *uninstaller) dismissAgents(ctx context.Context) error {
	ds := &appsv1.DaemonSet{}
	err := u.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DaemonSetAgent}, ds)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("read DaemonSet %s: %w", v1alpha1.DaemonSetAgent, err)
	case !isOurs(ds):
		return refused("DaemonSet d8-system/%s is not the module's: it has no label %s=%s", ds.Name, v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
	default:
		if err := u.clearFolders(ctx); err != nil {
			return err
		}
		if err := u.delete(ctx, ds); err != nil {
			return err
		}
	}
	return u.until(ctx, func(ctx context.Context) (string, error) { return u.podsOf(ctx, v1alpha1.DaemonSetAgent) })
}

// clearFolders gives the order and waits while agents carry it out.
func (u *uninstaller) clearFolders(ctx context.Context) error {
	staying, err := u.orderLeave(ctx)
	for err == nil && len(staying) > 0 {
		var now []string
		patience, cancel := context.WithTimeout(ctx, u.cfg.Patience)
		waitErr := u.until(patience, func(ctx context.Context) (string, error) {
			var err error
			if now, err = u.orderLeave(ctx); err != nil || len(now) < len(staying) {
				return "", err
			}
			return "Waiting for the agents of " + strings.Join(now, ", ") + " to clear their folder.", nil
		})
		cancel()
		switch {
		case waitErr != nil && ctx.Err() == nil && errors.Is(waitErr, context.DeadlineExceeded):
			u.say("Agents of these nodes do not clear their folder, remove /var/lib/registry-agent there by hand: %s.", strings.Join(staying, ", "))
			return nil
		case waitErr != nil:
			return waitErr
		}
		staying = now
	}
	return err
}

// orderLeave tells every agent, and returns the nodes that are there and whose
// agents have not yet done it.
func (u *uninstaller) orderLeave(ctx context.Context) ([]string, error) {
	ready, err := u.readyNodes(ctx)
	if err != nil {
		return nil, err
	}
	var nodes v1alpha1.RegistryNodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list RegistryNodes: %w", err)
	}
	var staying []string
	for i := range nodes.Items {
		rn := &nodes.Items[i]
		if !rn.Spec.Leave {
			err := u.client.Patch(ctx, rn, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"leave":true}}`)), owner)
			if client.IgnoreNotFound(err) != nil {
				return nil, fmt.Errorf("order RegistryNode %s to leave: %w", rn.Name, err)
			}
		}
		if ready[rn.Name] && !rn.Status.Left {
			staying = append(staying, rn.Name)
		}
	}
	return staying, nil
}
