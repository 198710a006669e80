package uninstall

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
)

// returnNodes gets every node that counts back to where it was before the
// module. It is the documented way: the layout's Secret is deleted, the
// controller makes an order of that, and knows when it is carried out and which
// nodes it goes without.
func (u *uninstaller) returnNodes(ctx context.Context) error {
	s, err := u.standing(ctx)
	if err != nil {
		return err
	}
	if s.returned() {
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
		s, err := u.standing(ctx)
		switch {
		case err != nil:
			return "", err
		case s.layout != nil && s.layout.UID != deleted:
			return "", u.republished(ctx, s)
		case s.returned():
			return "", nil
		case s.refusal() != nil:
			return "", s.refusal() // another wish meanwhile
		case !s.state.Desired.Legacy:
			return "Waiting for the controller to order it.", nil
		}
		return "Waiting for nodes. " + s.waiting(), nil
	})
	if err != nil {
		return err
	}
	return u.tellLeft(ctx)
}

// republished says who still needs names that only the layout serves.
func (u *uninstaller) republished(ctx context.Context, s standing) error {
	by, err := u.users(ctx, s.state)
	if err != nil {
		return err
	}
	if len(by) == 0 { // gone meanwhile
		by = []string{s.kept()}
	}
	return refused("the controller has published the layout again, because images are still named by addresses that nobody else serves: %s. "+
		"Give them other images or remove them, and try again. Nothing was removed", strings.Join(by, ", "))
}

// tellLeft names the nodes that the controller goes without.
func (u *uninstaller) tellLeft(ctx context.Context) error {
	var nodes v1alpha1.RegistryNodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list RegistryNodes: %w", err)
	}
	var left []string
	for i := range nodes.Items {
		if !nodes.Items[i].Status.Legacy {
			left = append(left, nodes.Items[i].Name)
		}
	}
	if len(left) > 0 {
		u.say("Nodes that are away or excluded keep what the module wrote there: %s. Make them anew, or remove on each the folders below containerd's "+
			"host directory whose hosts.toml begins with \"# Written by registry-agent\", and /var/lib/registry-agent.", strings.Join(left, ", "))
		return nil
	}
	u.say("All nodes are back in the legacy containerd format.")
	return nil
}

// controllerRuns refuses where nobody could give nodes the order.
func (u *uninstaller) controllerRuns(ctx context.Context) error {
	var d appsv1.Deployment
	err := u.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentController}, &d)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read Deployment %s: %w", v1alpha1.DeploymentController, err)
	}
	if d.Status.AvailableReplicas < 1 {
		return refused("Deployment d8-system/registry-controller has no available pod, and it is what gets nodes back to where they were before the module. " +
			"Get it to run (helm upgrade with the same chart puts back what is missing), then try again. Nothing was removed")
	}
	return nil
}

// stopController scales it down, so that it does not make again what is about to
// go, and returns when it has ended. The Deployment stays the chart's.
func (u *uninstaller) stopController(ctx context.Context) error {
	d := &appsv1.Deployment{}
	at := client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentController}
	err := u.client.Get(ctx, at, d)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("read Deployment %s: %w", at.Name, err)
	default:
		if n := d.Spec.Replicas; n != nil && *n > 0 {
			u.replicas = *n
		}
		if err := u.scale(ctx, d, 0); err != nil {
			return err
		}
	}
	return u.until(ctx, func(ctx context.Context) (string, error) { return u.podsOf(ctx, at.Name) })
}

// scale writes the number of pods, and leaves the field to the chart: or the next
// helm upgrade would be refused it.
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

// confirm looks once more now that nobody writes the state. Until the controller
// had ended somebody could still wish for another mode, and nodes could have been
// told of it: then the controller goes on.
func (u *uninstaller) confirm(ctx context.Context) error {
	s, err := u.standing(ctx)
	if err != nil {
		return err
	}
	no := s.refusal()
	if no == nil && s.returned() {
		return nil
	}
	d := &appsv1.Deployment{}
	err = u.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentController}, d)
	switch {
	case apierrors.IsNotFound(err): // there is nothing to put back
	case err != nil:
		return fmt.Errorf("read Deployment %s: %w", v1alpha1.DeploymentController, err)
	default:
		if err := u.scale(ctx, d, max(1, u.replicas)); err != nil {
			return err
		}
	}
	if no == nil {
		no = refused("nodes have been given something of the module again: %s. Try again. Nothing was removed", s.waiting())
	}
	return no
}

// podsOf says which pods of one of our own workloads are still there. One on a
// node that is away may stay there for ever.
func (u *uninstaller) podsOf(ctx context.Context, app string) (string, error) {
	ready, err := u.readyNodes(ctx)
	if err != nil {
		return "", err
	}
	var pods corev1.PodList
	if err := u.client.List(ctx, &pods, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{labelApp: app}); err != nil {
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

func (u *uninstaller) readyNodes(ctx context.Context) (map[string]bool, error) {
	var nodes corev1.NodeList
	if err := u.client.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list Nodes: %w", err)
	}
	ready := map[string]bool{}
	for i := range nodes.Items {
		ready[nodes.Items[i].Name] = slices.ContainsFunc(nodes.Items[i].Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
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
		want.Spec.Taints = slices.DeleteFunc(want.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNotConverged })
		if len(want.Annotations) == len(have.Annotations) && len(want.Labels) == len(have.Labels) && len(want.Spec.Taints) == len(have.Spec.Taints) {
			continue
		}
		patch := client.MergeFrom(have)
		if len(want.Spec.Taints) != len(have.Spec.Taints) {
			// A list is replaced as a whole: not over somebody else's taint.
			patch = client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})
		}
		if err := u.client.Patch(ctx, want, patch, owner); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("take the module's marks off Node %s: %w", have.Name, err)
		}
	}
	return nil
}

// delete deletes the very object that was seen.
func (u *uninstaller) delete(ctx context.Context, o client.Object) error {
	uid := o.GetUID()
	err := u.client.Delete(ctx, o, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete %s: %w", nameOf(o), err)
	}
	return nil
}
