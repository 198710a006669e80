package nodes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// ApplyRegistryNodes makes a RegistryNode for each node that runs an agent, and
// writes into it what the agent should do. The Node owns it.
func (k *Keeper) ApplyRegistryNodes(ctx context.Context, v *state.View) error {
	if v.Doc.Desired.Own.IsZero() && v.Doc.Desired.Layout.IsZero() && !v.Doc.Desired.Legacy {
		return nil // no registry is known yet
	}
	generation := v.WantedGeneration()
	for i := range v.Nodes {
		node := &v.Nodes[i]
		if !cluster.WantsAgent(node) {
			continue
		}
		spec := v1alpha1.RegistryNodeSpec{
			Generation:      generation,
			NodeGroup:       node.Labels[v1alpha1.LabelNodeGroup],
			Legacy:          v.Doc.Desired.Legacy,
			ApprovedRestart: v.Doc.ApprovedRestart(node.Name, string(node.UID)),
		}
		if err := k.putRegistryNode(ctx, node, v.RegistryNodes[node.Name], spec); err != nil {
			return fmt.Errorf("write RegistryNode %s: %w", node.Name, err)
		}
	}
	return nil
}

func (k *Keeper) putRegistryNode(ctx context.Context, node *corev1.Node, have *v1alpha1.RegistryNode, spec v1alpha1.RegistryNodeSpec) error {
	owners := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	var err error
	switch {
	case have == nil:
		err = k.cluster.Create(ctx, &v1alpha1.RegistryNode{
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: cluster.Ours(), OwnerReferences: owners},
			Spec:       spec,
		})
	case have.Spec == spec && slices.EqualFunc(have.OwnerReferences, owners, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID }):
		return nil
	default:
		want := have.DeepCopy()
		want.Spec, want.OwnerReferences = spec, owners
		cluster.SetLabels(want, cluster.Ours())
		err = k.cluster.Patch(ctx, want, client.MergeFrom(have), cluster.Owner)
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return cluster.ErrLost // the cache is behind
	}
	return err //nolint:wrapcheck // the caller names the node
}

// ApplyNodes writes version and label on Nodes, where users look for them. It
// taints nodes that have not proved that they can pull what any pod may need.
func (k *Keeper) ApplyNodes(ctx context.Context, v *state.View) error {
	tainted := k.protocol.Tainted(v.Doc.State, v.Observed)
	for i := range v.Nodes {
		have := &v.Nodes[i]
		want := have.DeepCopy()
		show(want, report(v.RegistryNodes[have.Name]))
		value, on := tainted[have.Name]
		taint(want, value, on)
		if equality.Semantic.DeepEqual(have, want) {
			continue
		}
		err := k.cluster.Patch(ctx, want, cluster.NodePatch(have, want), cluster.Owner)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			k.cluster.Wake()
			continue
		}
		if err != nil {
			return fmt.Errorf("mark node %s: %w", have.Name, err)
		}
	}
	return nil
}

// show sets version and label of a Node from a report, if the report is about
// this Node.
func show(node *corev1.Node, report switchover.Report) {
	if report.UID != string(node.UID) || report.UID == "" {
		return
	}
	_, shown := node.Annotations[v1alpha1.AnnotationVersion]
	switch now := report.BootID == node.Status.NodeInfo.BootID; {
	case report.Version != "" && now:
		cluster.SetAnnotation(node, v1alpha1.AnnotationVersion, report.Version)
	case report.Legacy && now && shown:
		cluster.SetAnnotation(node, v1alpha1.AnnotationVersion, "unknown") // back in the legacy format
	}
	switch report.Preflight {
	case switchover.PreflightReady:
		cluster.SetLabels(node, map[string]string{v1alpha1.LabelContainerdConfig: "default"})
	case switchover.PreflightCustom:
		cluster.SetLabels(node, map[string]string{v1alpha1.LabelContainerdConfig: "custom"})
	case switchover.PreflightUnsupported:
	}
}

// taint makes a node have our taint or not. One that is there keeps its value: it
// says how the node came.
func taint(node *corev1.Node, value string, on bool) {
	have := cluster.HasTaint(node)
	switch {
	case on && !have:
		ours := corev1.Taint{Key: v1alpha1.TaintNotConverged, Value: value, Effect: corev1.TaintEffectNoSchedule}
		node.Spec.Taints = append(slices.Clone(node.Spec.Taints), ours)
	case !on && have:
		cluster.RemoveTaint(node)
	}
}

// Warn makes Events on Nodes for warnings of agents and for restarts of
// containerd. First reports whether its arguments are new: each Event is made
// once.
func (k *Keeper) Warn(there *cluster.Snapshot, first func(...any) bool) {
	for i := range there.Nodes {
		node := &there.Nodes[i]
		if rn := there.RegistryNodes[node.Name]; rn != nil && rn.Status.NodeUID == string(node.UID) {
			warnOf(k.cluster.Events, node, rn, first)
		}
	}
}

func warnOf(events cluster.Events, node *corev1.Node, rn *v1alpha1.RegistryNode, first func(...any) bool) {
	for _, warning := range rn.Status.Warnings {
		if first(node.UID, "\n", warning) {
			events.Warningf(node, "ContainerdWarning", "%s", warning)
		}
	}
	restart := rn.Status.Restart
	switch {
	case restart == nil || restart.Phase == v1alpha1.RestartWaiting || !first(node.UID, "\n", restart.Phase, restart.ID):
	case restart.Phase == v1alpha1.RestartFailed:
		events.Warningf(node, "ContainerdRestartFailed", "%s", restart.Message)
	default:
		events.Normalf(node, "ContainerdRestart", "containerd is being restarted: %s", restart.Message)
	}
}
