package controller

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// applyRegistryNodes makes a RegistryNode for each node with an agent, owned by
// the Node, and tells it what is wanted of it.
func (r *Reconciler) applyRegistryNodes(ctx context.Context, s *sight, doc document) error {
	if doc.Desired.Own.IsZero() && doc.Desired.Layout.IsZero() && !doc.Desired.Legacy {
		return nil // nothing is known of any registry yet
	}
	generation := wantedGeneration(s, doc)
	for i := range s.nodes {
		node := &s.nodes[i]
		if !wantsAgent(node) {
			continue
		}
		spec := v1alpha1.RegistryNodeSpec{
			Generation:      generation,
			NodeGroup:       node.Labels[v1alpha1.LabelNodeGroup],
			Legacy:          doc.Desired.Legacy,
			ApprovedRestart: doc.ApprovedRestart(node.Name, string(node.UID)),
		}
		if err := r.putRegistryNode(ctx, node, s.registryNodes[node.Name], spec); err != nil {
			return fmt.Errorf("write RegistryNode %s: %w", node.Name, err)
		}
	}
	return nil
}

// wantedGeneration is what was published and not what is desired: agents go by
// the Secret. The order back to the legacy format has a generation of its own,
// newer than all that a node which was away may still have.
func wantedGeneration(s *sight, doc document) int64 {
	switch {
	case doc.Desired.Legacy:
		return doc.Generation
	case s.layoutSecret != nil:
		return published(s.layoutSecret).Layout.Generation
	}
	return 0
}

func (r *Reconciler) putRegistryNode(ctx context.Context, node *corev1.Node, have *v1alpha1.RegistryNode, spec v1alpha1.RegistryNodeSpec) error {
	owners := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	var err error
	switch {
	case have == nil:
		err = r.client.Create(ctx, &v1alpha1.RegistryNode{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: ours(), OwnerReferences: owners},
			Spec:       spec,
		})
	case have.Spec == spec && slices.EqualFunc(have.OwnerReferences, owners, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID }):
		return nil
	default:
		want := have.DeepCopy()
		want.Spec, want.OwnerReferences = spec, owners
		setLabels(want, ours())
		err = r.client.Patch(ctx, want, client.MergeFrom(have), owner)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return errLost // the cache is behind
	}
	return err //nolint:wrapcheck // the caller names the node
}

// applyNodes shows on Node objects what users look for there, and keeps pods
// away from nodes that have not proved what every pod may need.
func (r *Reconciler) applyNodes(ctx context.Context, s *sight, doc document) error {
	tainted := r.protocol.Tainted(doc.State, s.world)
	for i := range s.nodes {
		have := &s.nodes[i]
		want := have.DeepCopy()
		show(want, report(s.registryNodes[have.Name]))
		taint(want, slices.Contains(tainted, have.Name))
		if sameNode(have, want) {
			continue
		}
		patch := client.MergeFrom(have)
		if hasTaint(have) != hasTaint(want) {
			// A list is replaced as a whole: not over somebody else's taint.
			patch = client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})
		}
		err := r.client.Patch(ctx, want, patch, owner)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			r.wake()
			continue
		}
		if err != nil {
			return fmt.Errorf("mark node %s: %w", have.Name, err)
		}
	}
	return nil
}

// versionUnknown is the version of a node that is back in the legacy format.
const versionUnknown = "unknown"

// show sets version and label as users of the module know them.
func show(node *corev1.Node, report switchover.Report) {
	if report.UID != string(node.UID) || report.UID == "" {
		return
	}
	_, shown := node.Annotations[v1alpha1.AnnotationVersion]
	switch now := report.BootID == node.Status.NodeInfo.BootID; {
	case report.Version != "" && now:
		setAnnotation(node, v1alpha1.AnnotationVersion, report.Version)
	case report.Legacy && now && shown:
		setAnnotation(node, v1alpha1.AnnotationVersion, versionUnknown)
	}
	switch report.Preflight {
	case switchover.PreflightReady:
		setLabels(node, map[string]string{v1alpha1.LabelContainerdConfig: "default"})
	case switchover.PreflightCustom:
		setLabels(node, map[string]string{v1alpha1.LabelContainerdConfig: "custom"})
	case switchover.PreflightUnsupported:
	}
}

func taint(node *corev1.Node, on bool) {
	have := hasTaint(node)
	switch {
	case on && !have:
		node.Spec.Taints = append(slices.Clone(node.Spec.Taints), corev1.Taint{Key: v1alpha1.TaintNotConverged, Effect: corev1.TaintEffectNoSchedule})
	case !on && have:
		node.Spec.Taints = slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintNotConverged })
	}
}

func sameNode(a, b *corev1.Node) bool {
	return hasTaint(a) == hasTaint(b) &&
		a.Annotations[v1alpha1.AnnotationVersion] == b.Annotations[v1alpha1.AnnotationVersion] &&
		a.Labels[v1alpha1.LabelContainerdConfig] == b.Labels[v1alpha1.LabelContainerdConfig]
}
