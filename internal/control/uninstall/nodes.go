package uninstall

import (
	"context"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
)

// revertNodes takes nodes back to where they were before the module, in the
// documented way: the layout's Secret is deleted, and the controller sees that,
// gives the order to nodes and reports when they have followed it. The
// controller also decides which nodes it does not wait for.
func (u *uninstaller) revertNodes(ctx context.Context) error {
	s, err := u.readState(ctx)
	if err != nil {
		return err
	}
	if s.reverted() {
		u.say("No node has anything of the module in containerd's configuration.")
		return nil
	}
	if err := u.controllerRuns(ctx); err != nil {
		return err
	}
	var deleted types.UID
	if s.layout != nil {
		deleted = s.layout.UID
		if err := u.delete(ctx, s.layout); err != nil {
			return err
		}
		u.say("Secret d8-system/registry-bashible-config is deleted: nodes go back to the legacy containerd format.")
	}
	err = u.until(ctx, func(ctx context.Context) (string, error) {
		s, err := u.readState(ctx)
		switch {
		case err != nil:
			return "", err
		case s.layout != nil && s.layout.UID != deleted:
			return "", s.republished()
		case s.reverted():
			return "", nil
		case s.refusal() != nil:
			return "", s.refusal() // users asked for another mode meanwhile
		case !s.doc.Desired.Legacy:
			return "Waiting for the controller to order it.", nil
		}
		return "Waiting for nodes. " + s.waiting(), nil
	})
	if err != nil {
		return err
	}
	return u.tellSkipped(ctx)
}

// tellSkipped names the nodes that the controller did not wait for.
func (u *uninstaller) tellSkipped(ctx context.Context) error {
	var nodes v1alpha1.RegistryNodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list RegistryNodes: %w", err)
	}
	var skipped []string
	for i := range nodes.Items {
		if !nodes.Items[i].Status.Legacy {
			skipped = append(skipped, nodes.Items[i].Name)
		}
	}
	if len(skipped) > 0 {
		u.say("Nodes that are away or excluded keep what the module wrote there: %s. Make them anew, or remove on each the folders below containerd's "+
			"host directory whose hosts.toml begins with \"# Written by registry-agent\", and /var/lib/registry-agent.", strings.Join(skipped, ", "))
		return nil
	}
	u.say("All nodes are back in the legacy containerd format.")
	return nil
}

// controllerRuns refuses where no controller runs that could give nodes the
// order.
func (u *uninstaller) controllerRuns(ctx context.Context) error {
	d, err := u.controller(ctx)
	if err != nil {
		return err
	}
	if d == nil || d.Status.AvailableReplicas < 1 {
		return refused("Deployment d8-system/registry-controller has no available pod, and it is what gets nodes back to where they were before the module. " +
			"Get it to run (helm upgrade with the same chart puts back what is missing), then try again. Nothing was removed")
	}
	return nil
}

// controller is the controller's Deployment; nil when there is none.
func (u *uninstaller) controller(ctx context.Context) (*appsv1.Deployment, error) {
	return cluster.Get[appsv1.Deployment](ctx, u.client, cluster.Here(v1alpha1.DeploymentController))
}

// stopController scales it down, so that it does not make again what is removed
// next, and waits for its end. Helm deletes the Deployment itself.
func (u *uninstaller) stopController(ctx context.Context) error {
	d, err := u.controller(ctx)
	if err != nil {
		return err
	}
	if d != nil {
		if n := d.Spec.Replicas; n != nil && *n > 0 {
			u.replicas = *n
		}
		if err := u.scale(ctx, d, 0); err != nil {
			return err
		}
	}
	return u.until(ctx, func(ctx context.Context) (string, error) { return u.podsOf(ctx, v1alpha1.DeploymentController) })
}

// scale sets the number of pods, and gives up the field: otherwise the next helm
// upgrade would conflict with us.
func (u *uninstaller) scale(ctx context.Context, d *appsv1.Deployment, pods int32) error {
	if d.Spec.Replicas == nil || *d.Spec.Replicas != pods {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, pods)
		if err := u.client.Patch(ctx, d, client.RawPatch(types.MergePatchType, patch), owner); err != nil {
			return fmt.Errorf("scale Deployment %s: %w", d.Name, err)
		}
		u.say("Deployment d8-system/%s is scaled to %d.", d.Name, pods)
	}
	release, err := cluster.Release(d, string(owner))
	if err != nil || release == nil {
		return err
	}
	if err := u.client.Patch(ctx, d, release, owner); err != nil {
		return fmt.Errorf("leave Deployment %s to the chart: %w", d.Name, err)
	}
	return nil
}

// confirm looks again, now that nobody writes the state. Before the controller
// had ended, users could still ask for another mode, and nodes could have begun
// to follow. Then the controller is started again.
func (u *uninstaller) confirm(ctx context.Context) error {
	s, err := u.readState(ctx)
	if err != nil {
		return err
	}
	no := s.refusal()
	if no == nil && s.reverted() {
		return nil
	}
	d, err := u.controller(ctx)
	if err != nil {
		return err
	}
	if d != nil {
		if err := u.scale(ctx, d, max(1, u.replicas)); err != nil {
			return err
		}
	}
	if no == nil {
		no = refused("nodes have been given something of the module again: %s. Try again. Nothing was removed", s.waiting())
	}
	return no
}

// podsOf says which pods of one of our own workloads are still there. A pod on a
// node that is not Ready does not count: it may stay for ever.
func (u *uninstaller) podsOf(ctx context.Context, app string) (string, error) {
	ready, err := u.readyNodes(ctx)
	if err != nil {
		return "", err
	}
	var pods corev1.PodList
	if err := u.client.List(ctx, &pods, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{v1alpha1.LabelApp: app}); err != nil {
		return "", fmt.Errorf("list pods: %w", err)
	}
	var running []string
	for i := range pods.Items {
		if p := &pods.Items[i]; p.Spec.NodeName == "" || ready[p.Spec.NodeName] {
			running = append(running, p.Name)
		}
	}
	if len(running) == 0 {
		return "", nil
	}
	return "Waiting for the end of " + strings.Join(running, ", ") + ".", nil
}

// readyNodes are all nodes by name, with true for those that are Ready.
func (u *uninstaller) readyNodes(ctx context.Context) (map[string]bool, error) {
	var nodes corev1.NodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	ready := map[string]bool{}
	for i := range nodes.Items {
		ready[nodes.Items[i].Name] = cluster.IsReady(&nodes.Items[i])
	}
	return ready, nil
}

// unmarkNodes takes the module's label, annotation and taint off Nodes.
func (u *uninstaller) unmarkNodes(ctx context.Context) error {
	var nodes corev1.NodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list Nodes: %w", err)
	}
	for i := range nodes.Items {
		have := &nodes.Items[i]
		want := have.DeepCopy()
		delete(want.Annotations, v1alpha1.AnnotationVersion)
		delete(want.Labels, v1alpha1.LabelContainerdConfig)
		cluster.RemoveTaint(want)
		if len(want.Annotations) == len(have.Annotations) && len(want.Labels) == len(have.Labels) && !cluster.HasTaint(have) {
			continue
		}
		if err := u.client.Patch(ctx, want, cluster.NodePatch(have, want), owner); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("take the module's marks off Node %s: %w", have.Name, err)
		}
	}
	return nil
}

// delete deletes the very object that was seen. If another one has its name now, it
// fails, and the next try sees that one.
func (u *uninstaller) delete(ctx context.Context, o client.Object) error {
	err := cluster.DeleteSeen(ctx, u.client, o, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", cluster.Key(o), err)
	}
	return nil
}
