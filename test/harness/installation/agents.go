package installation

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// StartAgents lets honest agents report what is published, until the test ends. As is
// who reports for a node; nil where nobody does.
func (c *Cluster) StartAgents(as func(node string) client.Client) {
	c.t.Helper()
	Background(c.t, func(ctx context.Context) error {
		for ; ctx.Err() == nil; Pause(50 * time.Millisecond) {
			if err := c.report(ctx, as); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
}

func (c *Cluster) report(ctx context.Context, as func(node string) client.Client) error {
	var secret corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretLayout}, &secret); client.IgnoreNotFound(err) != nil {
		return err
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyLayout])
	if err != nil {
		l = layout.Layout{} // none yet
	}
	var nodes v1alpha1.RegistryNodeList
	if err := c.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		rn := &nodes.Items[i]
		agent := as(rn.Name)
		if agent == nil || rn.Status.NodeUID != "" && rn.Status.Generation == l.Generation && rn.Status.Legacy == rn.Spec.Legacy {
			continue
		}
		honest(rn, l)
		if err := agent.Status().Update(ctx, rn); err != nil {
			return err
		}
	}
	return nil
}

// honest fills in what an agent says that serves a layout.
func honest(rn *v1alpha1.RegistryNode, l layout.Layout) {
	rn.Status.NodeUID, rn.Status.BootID = string(rn.OwnerReferences[0].UID), BootID(rn.Name)
	rn.Status.Preflight, rn.Status.Generation, rn.Status.Legacy = "Ready", l.Generation, rn.Spec.Legacy
	if l.Generation > 0 {
		rn.Status.Version = l.Version()
	}
}
