package stores

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/pod"
)

// Where a kubelet takes no static pods the API server gives it the same pod: a DaemonSet for
// that node alone, written when the node would write its manifest. So each node has its own
// image and address, and approval of one node starts no store of another. See docs/adr/0021.

// errNoName is that others have all names: of the nine some are somebody else's, or are being
// deleted on nodes that cannot be reached.
var errNoName = errors.New("no name is left for its DaemonSet: registry-nodeservices-1 to -9 of d8-system are all there")

// daemonSets are those of stores that there are.
type daemonSets struct {
	byNode map[string]*appsv1.DaemonSet
	// surplus are for a node that has one, as a cache that was behind did not show it, or for no
	// node any more, as somebody has changed them.
	surplus []*appsv1.DaemonSet
	free    []string // names that nobody has
}

func daemonSetsIn(there *cluster.Snapshot) daemonSets {
	sets := daemonSets{byNode: map[string]*appsv1.DaemonSet{}, free: v1alpha1.DaemonSetsOfStores()}
	var ours []*appsv1.DaemonSet
	for i := range there.Inventory.DaemonSets {
		set := &there.Inventory.DaemonSets[i]
		at := slices.Index(sets.free, set.Name)
		if set.Namespace != v1alpha1.Namespace || at < 0 {
			continue
		}
		sets.free = slices.Delete(sets.free, at, at+1)
		if cluster.IsOurs(set) {
			ours = append(ours, set)
		}
	}
	// A cache has no order: of two for one node the same one stays in each pass, or both would go.
	slices.SortFunc(ours, func(a, b *appsv1.DaemonSet) int {
		return cmp.Or(cmp.Compare(ending(a), ending(b)), strings.Compare(a.Name, b.Name))
	})
	for _, set := range ours {
		if node := nodeOf(set); node == "" || sets.byNode[node] != nil {
			sets.surplus = append(sets.surplus, set)
		} else {
			sets.byNode[node] = set
		}
	}
	return sets
}

// ending is 1 for one that is being deleted.
func ending(set *appsv1.DaemonSet) int {
	if set.DeletionTimestamp != nil {
		return 1
	}
	return 0
}

// nodeOf is the node that a DaemonSet is for; empty for none.
func nodeOf(set *appsv1.DaemonSet) string {
	affinity := set.Spec.Template.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return ""
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

// only is the affinity to one node, also to one that takes no pods.
func only(node string) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{
			{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node}},
		}}},
	}}}
}

// daemonSet is the pod of a node's store as a DaemonSet. An etcd on its disk is not known here,
// and k3s has its own elsewhere: true is the careful answer.
func daemonSet(name, node string, spec *v1alpha1.StoreSpec) (*appsv1.DaemonSet, error) {
	store, err := pod.StoreOf(spec)
	if err != nil {
		return nil, fmt.Errorf("make DaemonSet %s: %w", name, err)
	}
	store.BesideEtcd = true
	template := store.Template()
	template.Labels[v1alpha1.LabelDaemonSet] = name
	template.Spec.Affinity = only(node)
	// A kubelet of 1.35 gives an image that it pulled with a secret to no pod without one.
	template.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: v1alpha1.SecretBootstrap}}
	labels := maps.Clone(template.Labels)
	maps.Copy(labels, cluster.Ours())
	meta := cluster.HereMeta(name)
	meta.Labels = labels
	return &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
		Selector:       &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.LabelApp: v1alpha1.PodStore, v1alpha1.LabelDaemonSet: name}},
		UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType},
		Template:       template,
	}}, nil
}

// byDaemonSet reports whether the kubelet of a node takes no static pods, as its agent says.
// Before it reports, nothing has changed.
func (c candidate) byDaemonSet() bool {
	if r := c.report(); r != nil {
		return r.DaemonSet
	}
	s := c.spec()
	return s != nil && s.DaemonSet
}

// run makes, changes and removes the DaemonSets. One comes when its node has heard that it
// comes, and so writes no static pod; its pod has ended when it is gone, and then its node hears
// of that. What concerns one node is told by its name.
func (k *Keeper) run(ctx context.Context, there *cluster.Snapshot, w Wish, specs map[string]*v1alpha1.StoreSpec) map[string]error {
	refused, sets := map[string]error{}, daemonSetsIn(there)
	left := maps.Clone(sets.byNode)
	for _, c := range w.candidates(there) {
		name, spec, heard := c.node.Name, specs[c.node.Name], c.spec()
		if spec == nil || !c.byDaemonSet() {
			continue
		}
		delete(left, name)
		if heard == nil || !heard.DaemonSet || spec.Approved != spec.Version {
			continue // what runs goes on
		}
		have := sets.byNode[name]
		if have == nil && len(sets.free) == 0 {
			k.problems[name] = errNoName
			continue
		}
		at := ""
		if have != nil {
			at = have.Name
		} else {
			at, sets.free = sets.free[0], sets.free[1:]
		}
		if err := k.put(ctx, at, name, have, spec); err != nil {
			refused[name] = err
		}
	}
	for _, set := range slices.Concat(slices.Collect(maps.Values(left)), sets.surplus) {
		if err := k.takeAway(ctx, set); err != nil {
			refused[cmp.Or(nodeOf(set), set.Name)] = err
		}
	}
	return refused
}

// put makes one of them, or changes it.
func (k *Keeper) put(ctx context.Context, name, node string, have *appsv1.DaemonSet, spec *v1alpha1.StoreSpec) error {
	want, err := daemonSet(name, node, spec)
	switch {
	case err != nil:
		return err
	case have == nil:
		// Not applied: a cache that is behind does not show who has the name.
		if err := k.cluster.Create(ctx, want, cluster.Owner); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make DaemonSet %s: %w", name, err)
		}
		return nil
	case have.DeletionTimestamp != nil,
		equality.Semantic.DeepDerivative(want.Spec, have.Spec) && cluster.Contains(have.Labels, want.Labels):
		return nil
	}
	// Of one that is gone nothing is made: its node may run a static pod by now.
	want.UID = have.UID
	if err := k.cluster.ApplyOwn(ctx, want, appsv1.SchemeGroupVersion.WithKind("DaemonSet")); !apierrors.IsConflict(err) {
		return err //nolint:wrapcheck // it says what it was doing
	}
	return nil // the cache is behind
}

// takeAway deletes one in the foreground: it is gone when its pod is.
func (k *Keeper) takeAway(ctx context.Context, set *appsv1.DaemonSet) error {
	if set.DeletionTimestamp != nil {
		return nil
	}
	if _, err := k.cluster.DeleteSeen(ctx, set, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		return fmt.Errorf("delete DaemonSet %s: %w", set.Name, err)
	}
	k.cluster.Log.Info("the DaemonSet of a store is taken away", "node", nodeOf(set), "daemonset", set.Name)
	return nil
}
