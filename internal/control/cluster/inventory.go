package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// pageSize is how many objects one live LIST asks for.
const pageSize = 500

// Selection says which workloads are whose.
type Selection struct {
	// Platform selects the platform's workloads, or the namespaces they are in.
	Platform labels.Selector
	// Own are the module's own workloads in d8-system, as "Deployment/name".
	Own []string
}

// Inventory is everything in the cluster that may refer to an image.
type Inventory struct {
	Namespaces     map[string]labels.Set
	Ending         map[string]bool // namespaces that are being deleted
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

// takeInventory lists templates first and pods last: a pod that is made in
// between comes from a template that was seen.
func (c *Client) takeInventory(ctx context.Context, from client.Reader, live bool) (*Inventory, error) {
	inv := &Inventory{Namespaces: map[string]labels.Set{}, Ending: map[string]bool{}, Whose: c.Whose, Live: live}
	l := lister{ctx, from, live}
	var namespaces []corev1.Namespace
	for _, step := range []func() error{
		func() error {
			return every(l, &namespaces, func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items })
		},
		func() error {
			return every(l, &inv.RequiredImages, func(l *corev1.ConfigMapList) []corev1.ConfigMap { return l.Items },
				client.MatchingLabels{v1alpha1.LabelRequiredImages: "true"})
		},
		func() error {
			return every(l, &inv.Deployments, func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items })
		},
		func() error {
			return every(l, &inv.DaemonSets, func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items })
		},
		func() error {
			return every(l, &inv.StatefulSets, func(l *appsv1.StatefulSetList) []appsv1.StatefulSet { return l.Items })
		},
		func() error {
			return every(l, &inv.CronJobs, func(l *batchv1.CronJobList) []batchv1.CronJob { return l.Items })
		},
		func() error { return every(l, &inv.Jobs, func(l *batchv1.JobList) []batchv1.Job { return l.Items }) },
		func() error {
			return every(l, &inv.ReplicaSets, func(l *appsv1.ReplicaSetList) []appsv1.ReplicaSet { return l.Items })
		},
		func() error {
			return every(l, &inv.Revisions, func(l *appsv1.ControllerRevisionList) []appsv1.ControllerRevision { return l.Items })
		},
		func() error {
			return every(l, &inv.Replicators, func(l *corev1.ReplicationControllerList) []corev1.ReplicationController { return l.Items })
		},
		func() error {
			return every(l, &inv.RegistryNodes, func(l *v1alpha1.RegistryNodeList) []v1alpha1.RegistryNode { return l.Items })
		},
		func() error { return every(l, &inv.Pods, func(l *corev1.PodList) []corev1.Pod { return l.Items }) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for i := range namespaces {
		inv.Namespaces[namespaces[i].Name] = namespaces[i].Labels
		inv.Ending[namespaces[i].Name] = namespaces[i].DeletionTimestamp != nil
	}
	return inv, nil
}

// lister reads whole lists: from a cache at once, from the API server page by
// page.
type lister struct {
	ctx  context.Context //nolint:containedctx // lives for one call of takeInventory
	from client.Reader
	live bool
}

func every[T, L any, P interface {
	*L
	client.ObjectList
}](l lister, to *[]T, items func(P) []T, opts ...client.ListOption) error {
	if l.live {
		opts = append(opts, client.Limit(pageSize))
	} else {
		opts = append(opts, client.UnsafeDisableDeepCopy)
	}
	for token := ""; ; {
		page := P(new(L)) // a fresh one: decoding into a used one reuses its maps
		if err := l.from.List(l.ctx, page, append(slices.Clone(opts), client.Continue(token))...); err != nil {
			return fmt.Errorf("list %T: %w", page, err)
		}
		*to = append(*to, items(page)...)
		// A cache answers in one, with a token that it does not understand.
		if token = page.GetContinue(); token == "" || !l.live {
			return nil
		}
	}
}

// IsPlatforms reports whether a namespace is the platform's, by its labels or
// by a name that is reserved for it.
func (inv *Inventory) IsPlatforms(namespace string) bool {
	return inv.Whose.platform().Matches(inv.Namespaces[namespace]) || strings.HasPrefix(namespace, "d8-") || strings.HasPrefix(namespace, "kube-")
}

func (s Selection) platform() labels.Selector {
	if s.Platform == nil {
		return labels.Nothing()
	}
	return s.Platform
}

// Workloads are all of them, by kind: DaemonSets last, because they are
// re-pointed last.
func (inv *Inventory) Workloads() []Workload {
	all := make([]Workload, 0, len(inv.Deployments)+len(inv.StatefulSets)+len(inv.CronJobs)+len(inv.DaemonSets))
	for i := range inv.Deployments {
		all = append(all, inv.workload(&inv.Deployments[i]))
	}
	for i := range inv.StatefulSets {
		all = append(all, inv.workload(&inv.StatefulSets[i]))
	}
	for i := range inv.CronJobs {
		all = append(all, inv.workload(&inv.CronJobs[i]))
	}
	for i := range inv.DaemonSets {
		all = append(all, inv.workload(&inv.DaemonSets[i]))
	}
	return all
}

// workload completes one with what only the cluster as a whole tells of it.
func (inv *Inventory) workload(o client.Object) Workload {
	w := WorkloadOf(o)
	w.Ending = inv.Ending[o.GetNamespace()]
	w.Own = o.GetNamespace() == v1alpha1.Namespace && slices.Contains(inv.Whose.Own, w.Kind.Kind+"/"+o.GetName())
	platform := inv.Whose.platform()
	w.Platform = !w.Own && (platform.Matches(labels.Set(o.GetLabels())) || platform.Matches(inv.Namespaces[o.GetNamespace()]))
	return w
}

// PodsOf are the pods that the workload made and that still run.
func (inv *Inventory) PodsOf(w Workload) []*corev1.Pod {
	var pods []*corev1.Pod
	for i := range inv.Pods {
		pod := &inv.Pods[i]
		ended := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		if pod.Namespace == w.GetNamespace() && !ended && w.selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	return pods
}
