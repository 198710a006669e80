package cluster

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// pageSize is how many objects one live LIST asks for.
const pageSize = 500

// Inventory is everything in the cluster that may refer to an image.
type Inventory struct {
	Namespaces     map[string]labels.Set
	Ending         map[string]bool // namespaces that are being deleted
	Ignored        map[string]bool // namespaces that the operator says to ignore
	Deployments    []appsv1.Deployment
	DaemonSets     []appsv1.DaemonSet
	StatefulSets   []appsv1.StatefulSet
	CronJobs       []batchv1.CronJob
	Jobs           []batchv1.Job
	ReplicaSets    []appsv1.ReplicaSet
	Replicators    []corev1.ReplicationController
	Revisions      []appsv1.ControllerRevision
	RequiredImages []corev1.ConfigMap
	RegistryNodes  []v1alpha1.RegistryNode
	Pods           []corev1.Pod
	// Live is whether all of it was listed from the API server in this pass.
	Live bool
	// Whose says which of its workloads are whose.
	Whose Selection
}

// TakeLive lists everything from the API server, past every cache.
func (c *Client) TakeLive(ctx context.Context) (*Inventory, error) {
	return c.takeInventory(ctx, c.Live, true)
}

// takeInventory lists templates first and then pods: a pod that is made in between
// comes from a template that was seen. Namespaces come after both: the namespace of
// everything that was seen is known, or gone.
func (c *Client) takeInventory(ctx context.Context, from client.Reader, live bool) (*Inventory, error) {
	inv := &Inventory{Namespaces: map[string]labels.Set{}, Ending: map[string]bool{}, Ignored: map[string]bool{}, Whose: c.Whose, Live: live}
	l := &lister{ctx: ctx, from: from, live: live}
	var namespaces []corev1.Namespace
	every(l, &inv.RequiredImages, &corev1.ConfigMapList{}, client.MatchingLabels{v1alpha1.LabelRequiredImages: "true"})
	every(l, &inv.Deployments, &appsv1.DeploymentList{})
	every(l, &inv.DaemonSets, &appsv1.DaemonSetList{})
	every(l, &inv.StatefulSets, &appsv1.StatefulSetList{})
	every(l, &inv.CronJobs, &batchv1.CronJobList{})
	every(l, &inv.Jobs, &batchv1.JobList{})
	every(l, &inv.ReplicaSets, &appsv1.ReplicaSetList{})
	every(l, &inv.Revisions, &appsv1.ControllerRevisionList{})
	every(l, &inv.Replicators, &corev1.ReplicationControllerList{})
	every(l, &inv.RegistryNodes, &v1alpha1.RegistryNodeList{})
	every(l, &inv.Pods, &corev1.PodList{})
	every(l, &namespaces, &corev1.NamespaceList{})
	if l.err != nil {
		return nil, l.err
	}
	if live { // the cache did it
		for i := range inv.RegistryNodes {
			printable(&inv.RegistryNodes[i])
		}
	}
	for i := range namespaces {
		ns := &namespaces[i]
		inv.Namespaces[ns.Name], inv.Ending[ns.Name], inv.Ignored[ns.Name] = ns.Labels, ns.DeletionTimestamp != nil, IsIgnored(ns)
	}
	return inv, nil
}

// lister reads whole lists: from a cache at once, from the API server page by
// page. After an error it reads nothing more.
type lister struct {
	ctx  context.Context //nolint:containedctx // lives for one call of takeInventory or Take
	from client.Reader
	live bool
	err  error
}

// every adds all objects of a kind to a slice. Like is an empty list of the kind.
func every[T any](l *lister, to *[]T, like client.ObjectList, opts ...client.ListOption) {
	if l.live {
		opts = append(opts, client.Limit(pageSize))
	} else {
		opts = append(opts, client.UnsafeDisableDeepCopy)
	}
	for token := ""; l.err == nil; {
		page, _ := like.DeepCopyObject().(client.ObjectList) // a fresh one: decoding into a used one reuses its maps
		if err := l.from.List(l.ctx, page, append(slices.Clone(opts), client.Continue(token))...); err != nil {
			l.err = fmt.Errorf("list %T: %w", page, err)
			return
		}
		items, _ := meta.GetItemsPtr(page)
		found, ok := items.(*[]T)
		if !ok {
			l.err = fmt.Errorf("list %T: it holds no %T", page, *to)
			return
		}
		*to = append(*to, *found...)
		// A cache answers in one, with a token that it does not understand.
		if token = page.GetContinue(); token == "" || !l.live {
			return
		}
	}
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
	for _, o := range inv.objects() {
		if o.GetNamespace() != v1alpha1.Namespace || o.GetName() != name {
			continue
		}
		if w := inv.workload(o); w.Kind.Kind == kind {
			return &w
		}
	}
	return nil
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
	w.Ignored = inv.Ignored[o.GetNamespace()] || IsIgnored(o)
	w.Own = o.GetNamespace() == v1alpha1.Namespace && slices.Contains(inv.Whose.Own, w.Kind.Kind+"/"+o.GetName())
	w.Foreign = !inv.IsPlatforms(o.GetNamespace())
	w.Platform = !w.Own && (!w.Foreign || inv.Whose.selects(o))
	return w
}

// PodsOf are the pods that the workload made and that still run.
func (inv *Inventory) PodsOf(w Workload) []*corev1.Pod {
	selector, err := metav1.LabelSelectorAsSelector(w.selector) // nothing for nil
	if err != nil {
		return nil
	}
	var pods []*corev1.Pod
	for i := range inv.Pods {
		pod := &inv.Pods[i]
		if pod.Namespace == w.GetNamespace() && pod.DeletionTimestamp == nil && !PodEnded(pod) && selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}
