package nodes

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// ApplyRegistryNodes makes a RegistryNode for each node that runs an agent, and
// writes into it what the agent should do. The Node owns it. A new layout changes
// none of them: agents read the layout itself.
func (k *Keeper) ApplyRegistryNodes(ctx context.Context, v *state.View) error {
	if v.Doc.Desired.Own.IsZero() && v.Doc.Desired.Layout.IsZero() && !v.Doc.Desired.Legacy {
		return nil // no registry is known yet
	}
	var writes []write
	for i := range v.Nodes {
		node := &v.Nodes[i]
		if !cluster.WantsAgent(node) {
			continue
		}
		spec := v1alpha1.RegistryNodeSpec{
			NodeGroup:       node.Labels[v1alpha1.LabelNodeGroup],
			Legacy:          v.Doc.Desired.Legacy,
			ApprovedRestart: v.Doc.ApprovedRestart(node.Name, string(node.UID)),
		}
		if spec.Legacy {
			spec.Generation = v.Doc.Generation
		}
		have := v.RegistryNodes[node.Name]
		if have != nil {
			spec.Store = have.Spec.Store // package stores writes that
		}
		if have != nil && have.Spec == spec && ownedBy(have, node) {
			continue
		}
		writes = append(writes, write{node.Name, "write RegistryNode", func(ctx context.Context) error {
			return k.putRegistryNode(ctx, node, have, spec)
		}})
	}
	return doAll(ctx, v, writes)
}

// ownedBy reports whether the Node, and nothing else, owns the RegistryNode.
func ownedBy(rn *v1alpha1.RegistryNode, node *corev1.Node) bool {
	return len(rn.OwnerReferences) == 1 && rn.OwnerReferences[0].UID == node.UID
}

func (k *Keeper) putRegistryNode(ctx context.Context, node *corev1.Node, have *v1alpha1.RegistryNode, spec v1alpha1.RegistryNodeSpec) error {
	owners := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}
	if have == nil {
		return k.cluster.Create(ctx, &v1alpha1.RegistryNode{ //nolint:wrapcheck // the caller names the node
			ObjectMeta: metav1.ObjectMeta{Name: node.Name, Labels: cluster.Ours(), OwnerReferences: owners},
			Spec:       spec,
		})
	}
	want := have.DeepCopy()
	want.Spec, want.OwnerReferences = spec, owners
	cluster.SetLabels(want, cluster.Ours())
	return k.cluster.Patch(ctx, want, client.MergeFrom(have), cluster.Owner) //nolint:wrapcheck // the caller names the node
}

// ApplyNodes writes version and label on Nodes, where users look for them. It
// taints nodes that have not proved that they can pull what any pod may need. All
// of it is one write for a node.
func (k *Keeper) ApplyNodes(ctx context.Context, v *state.View) error {
	tainted := k.protocol.Tainted(v.Doc.State, v.Observed)
	var writes []write
	for i := range v.Nodes {
		node := &v.Nodes[i]
		m := marksOf(node, report(v.RegistryNodes[node.Name]))
		m.taint, m.tainted = tainted[node.Name]
		if m.on(node) {
			continue
		}
		writes = append(writes, write{node.Name, "mark node", func(ctx context.Context) error { return k.mark(ctx, node, m) }})
	}
	return doAll(ctx, v, writes)
}

// marks are what a Node should show.
type marks struct {
	version string // annotation; empty: as it is
	config  string // label; empty: as it is
	tainted bool
	taint   string // the value of a taint that is put on; one that is there keeps its own, which says how the node came
}

// marksOf makes marks of a report, if the report is about this Node.
func marksOf(node *corev1.Node, report switchover.Report) marks {
	var m marks
	if report.UID != string(node.UID) || report.UID == "" {
		return m
	}
	_, shown := node.Annotations[v1alpha1.AnnotationVersion]
	switch now := report.BootID == node.Status.NodeInfo.BootID; {
	case report.Version != "" && now:
		m.version = report.Version
	case report.Legacy && now && shown:
		m.version = "unknown" // back in the legacy format
	}
	switch report.Preflight {
	case switchover.PreflightReady:
		m.config = "default"
	case switchover.PreflightCustom:
		m.config = "custom"
	case switchover.PreflightUnsupported:
	}
	return m
}

// on reports whether the Node shows them already.
func (m marks) on(node *corev1.Node) bool {
	return (m.version == "" || node.Annotations[v1alpha1.AnnotationVersion] == m.version) &&
		(m.config == "" || node.Labels[v1alpha1.LabelContainerdConfig] == m.config) &&
		cluster.HasTaint(node) == m.tainted
}

// put writes them into a copy of a Node.
func (m marks) put(node *corev1.Node) {
	if m.version != "" {
		cluster.SetAnnotation(node, v1alpha1.AnnotationVersion, m.version)
	}
	if m.config != "" {
		cluster.SetLabels(node, map[string]string{v1alpha1.LabelContainerdConfig: m.config})
	}
	switch have := cluster.HasTaint(node); {
	case m.tainted && !have:
		node.Spec.Taints = append(slices.Clone(node.Spec.Taints), corev1.Taint{Key: v1alpha1.TaintNotConverged, Value: m.taint, Effect: corev1.TaintEffectNoSchedule})
	case !m.tainted && have:
		cluster.RemoveTaint(node)
	}
}

// markTries is how often a Node is read again because somebody else wrote it.
const markTries = 3

// mark writes the marks on one Node. Taints can be changed only in the list that
// was seen: if somebody else wrote the Node meanwhile, it alone is read again. If
// it has booted or was made anew, the marks were for another one, and its event
// brings the next pass.
func (k *Keeper) mark(ctx context.Context, seen *corev1.Node, m marks) error {
	node := seen
	for try := 1; ; try++ {
		want := node.DeepCopy()
		m.put(want)
		err := k.cluster.Patch(ctx, want, cluster.NodePatch(node, want), cluster.Owner)
		if !apierrors.IsConflict(err) || try == markTries {
			return err //nolint:wrapcheck // the caller names the node
		}
		node, err = cluster.Get[corev1.Node](ctx, k.cluster.Live, client.ObjectKeyFromObject(seen))
		if err != nil || node == nil || node.UID != seen.UID || node.Status.NodeInfo.BootID != seen.Status.NodeInfo.BootID || m.on(node) {
			return err //nolint:wrapcheck // the caller names the node
		}
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
