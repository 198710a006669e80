package cluster

import (
	"context"
	"iter"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
)

// Inventory is everything in the cluster that may refer to an image.
type Inventory struct {
	Namespaces     map[string]labels.Set
	Ending         map[string]bool // namespaces that are being deleted
	Ignored        map[string]bool // namespaces that the operator says to ignore
	Deployments    []appsv1.Deployment
	DaemonSets     []appsv1.DaemonSet
	StatefulSets   []appsv1.StatefulSet
	CronJobs       []batchv1.CronJob
	Makers         []*excerpt.Maker
	RequiredImages []corev1.ConfigMap
	RegistryNodes  []v1alpha1.RegistryNode
	Pods           []*excerpt.Pod
	Nodes          []corev1.Node // only if Live; else they are in the Snapshot
	// Live is whether all of it was listed from the API server in this pass.
	Live bool
	// Whose says which of its workloads are whose.
	Whose Selection
}

// TakeLive lists everything from the API server, past every cache.
func (c *Client) TakeLive(ctx context.Context) (*Inventory, error) {
	return c.takeInventory(&lister{ctx: ctx, from: c.Live, raw: c.Raw, known: c.Cache}, true)
}

// takeInventory lists templates first and then pods: a pod that is made in between
// comes from a template that was seen. Namespaces come after both: the namespace of
// everything that was seen is known, or gone.
func (c *Client) takeInventory(l *lister, live bool) (*Inventory, error) {
	inv := &Inventory{Namespaces: map[string]labels.Set{}, Ending: map[string]bool{}, Ignored: map[string]bool{}, Whose: c.Whose, Live: live}
	var namespaces []corev1.Namespace
	every(l, &inv.RequiredImages, &corev1.ConfigMapList{}, client.MatchingLabels{v1alpha1.LabelRequiredImages: "true"})
	every(l, &inv.Deployments, &appsv1.DeploymentList{})
	every(l, &inv.DaemonSets, &appsv1.DaemonSetList{})
	every(l, &inv.StatefulSets, &appsv1.StatefulSetList{})
	every(l, &inv.CronJobs, &batchv1.CronJobList{})
	// Owners before what they make.
	each(l, &inv.Makers, &batchv1.Job{}, &batchv1.JobList{})
	each(l, &inv.Makers, &appsv1.ReplicaSet{}, &appsv1.ReplicaSetList{})
	each(l, &inv.Makers, &corev1.ReplicationController{}, &corev1.ReplicationControllerList{})
	each(l, &inv.Makers, &appsv1.ControllerRevision{}, &appsv1.ControllerRevisionList{})
	every(l, &inv.RegistryNodes, &v1alpha1.RegistryNodeList{})
	each(l, &inv.Pods, &corev1.Pod{}, &corev1.PodList{})
	every(l, &namespaces, &corev1.NamespaceList{})
	if live { // last: what may be taken away depends on how they are now
		every(l, &inv.Nodes, &corev1.NodeList{})
	}
	if l.err != nil {
		return nil, l.err
	}
	for i := range namespaces {
		ns := &namespaces[i]
		inv.Namespaces[ns.Name], inv.Ending[ns.Name], inv.Ignored[ns.Name] = ns.Labels, ns.DeletionTimestamp != nil, excerpt.IsIgnored(ns)
	}
	return inv, nil
}

// Workloads are all of them, by kind: DaemonSets last, because they are
// re-pointed last.
func (inv *Inventory) Workloads() []Workload {
	objects := inv.objects()
	all := make([]Workload, 0, len(objects))
	for _, o := range objects {
		all = append(all, inv.workload(o))
	}
	return all
}

// OwnWorkload is a workload of d8-system by kind and name; nil when absent.
func (inv *Inventory) OwnWorkload(kind, name string) *Workload {
	for _, objects := range [][]client.Object{pointers(inv.Deployments), pointers(inv.DaemonSets)} {
		for _, o := range objects {
			if o.GetNamespace() == v1alpha1.Namespace && o.GetName() == name {
				if w := inv.workload(o); w.Kind.Kind == kind {
					return &w
				}
			}
		}
	}
	return nil
}

// OwnPods are the pods of d8-system.
func (inv *Inventory) OwnPods() iter.Seq[*excerpt.Pod] {
	return func(yield func(*excerpt.Pod) bool) {
		for _, pod := range inv.Pods {
			if pod.Namespace == v1alpha1.Namespace && !yield(pod) {
				return
			}
		}
	}
}

func (inv *Inventory) objects() []client.Object {
	return slices.Concat(pointers(inv.Deployments), pointers(inv.StatefulSets), pointers(inv.CronJobs), pointers(inv.DaemonSets))
}

func pointers[T any, P interface {
	*T
	client.Object
}](items []T) []client.Object {
	objects := make([]client.Object, 0, len(items))
	for i := range items {
		objects = append(objects, P(&items[i]))
	}
	return objects
}

// workload completes one with what only the cluster as a whole tells of it.
func (inv *Inventory) workload(o client.Object) Workload {
	w := WorkloadOf(o)
	w.Ending = inv.Ending[o.GetNamespace()]
	w.Ignored = inv.Ignored[o.GetNamespace()] || excerpt.IsIgnored(o)
	w.Own = o.GetNamespace() == v1alpha1.Namespace && slices.Contains(inv.Whose.Own, w.Kind.Kind+"/"+o.GetName())
	w.Foreign = !inv.IsPlatforms(o.GetNamespace())
	w.Platform = !w.Own && (!w.Foreign || inv.Whose.selects(o))
	return w
}
