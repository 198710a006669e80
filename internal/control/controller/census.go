package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// pageSize is how many objects one live LIST asks for.
const pageSize = 500

// inventory is everything in the cluster that may refer to an image.
type inventory struct {
	namespaces  map[string]labels.Set
	ending      map[string]bool // namespaces that are being deleted
	deployments []appsv1.Deployment
	daemonSets  []appsv1.DaemonSet
	stateful    []appsv1.StatefulSet
	cronJobs    []batchv1.CronJob
	jobs        []batchv1.Job
	replicaSets []appsv1.ReplicaSet
	replicators []corev1.ReplicationController
	revisions   []appsv1.ControllerRevision
	required    []corev1.ConfigMap
	nodes       []v1alpha1.RegistryNode
	pods        []corev1.Pod
	// live is whether all of it was listed from the API server in this pass.
	live bool
}

// takeInventory lists templates first and pods last: a pod that is made in
// between comes from a template that was seen.
func takeInventory(ctx context.Context, from client.Reader, live bool) (*inventory, error) {
	inv := &inventory{namespaces: map[string]labels.Set{}, ending: map[string]bool{}, live: live}
	l := lister{ctx, from, live}
	var namespaces []corev1.Namespace
	steps := []func() error{
		func() error {
			return every(l, &namespaces, func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items })
		},
		func() error {
			return every(l, &inv.required, func(l *corev1.ConfigMapList) []corev1.ConfigMap { return l.Items },
				client.MatchingLabels{v1alpha1.LabelRequiredImages: "true"})
		},
		func() error {
			return every(l, &inv.deployments, func(l *appsv1.DeploymentList) []appsv1.Deployment { return l.Items })
		},
		func() error {
			return every(l, &inv.daemonSets, func(l *appsv1.DaemonSetList) []appsv1.DaemonSet { return l.Items })
		},
		func() error {
			return every(l, &inv.stateful, func(l *appsv1.StatefulSetList) []appsv1.StatefulSet { return l.Items })
		},
		func() error {
			return every(l, &inv.cronJobs, func(l *batchv1.CronJobList) []batchv1.CronJob { return l.Items })
		},
		func() error { return every(l, &inv.jobs, func(l *batchv1.JobList) []batchv1.Job { return l.Items }) },
		func() error {
			return every(l, &inv.replicaSets, func(l *appsv1.ReplicaSetList) []appsv1.ReplicaSet { return l.Items })
		},
		func() error {
			return every(l, &inv.revisions, func(l *appsv1.ControllerRevisionList) []appsv1.ControllerRevision { return l.Items })
		},
		func() error {
			return every(l, &inv.replicators, func(l *corev1.ReplicationControllerList) []corev1.ReplicationController { return l.Items })
		},
		func() error {
			return every(l, &inv.nodes, func(l *v1alpha1.RegistryNodeList) []v1alpha1.RegistryNode { return l.Items })
		},
		func() error { return every(l, &inv.pods, func(l *corev1.PodList) []corev1.Pod { return l.Items }) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for i := range namespaces {
		inv.namespaces[namespaces[i].Name] = namespaces[i].Labels
		inv.ending[namespaces[i].Name] = namespaces[i].DeletionTimestamp != nil
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

// census is every reference under one of the bases.
func (r *Reconciler) census(inv *inventory, bases []layout.Name, doc document) switchover.Census {
	c := counter{bases: bases, seen: map[switchover.Reference]bool{}}
	for _, w := range inv.workloads(r.selector) {
		if !c.refers(&w.template.Spec) {
			continue
		}
		c.add(w.String(), &w.template.Spec, switchover.Reference{OwnWorkload: w.own, Movable: w.platform && r.mayMove(w, doc.Switch) == ""})
		if inv.live && w.unobserved() {
			c.problem(w.String() + " was not yet observed by its controller")
		}
	}
	c.addUnmovable(inv)
	required, trouble := r.required(inv)
	for _, p := range trouble {
		c.problem(p)
	}
	slices.SortFunc(c.references, func(a, b switchover.Reference) int {
		return cmp.Or(cmp.Compare(a.Name.String(), b.Name.String()), cmp.Compare(a.User, b.User), cmp.Compare(a.Image, b.Image))
	})
	return switchover.Census{Live: inv.live, Problem: strings.Join(c.problems, "; "), References: c.references, Required: required}
}

// addUnmovable counts what nobody re-points: what is made from templates, and
// what has none.
func (c *counter) addUnmovable(inv *inventory) {
	for i := range inv.jobs {
		if job := &inv.jobs[i]; !finished(job) {
			c.add("Job "+key(job), &job.Spec.Template.Spec, switchover.Reference{})
		}
	}
	for i := range inv.replicaSets {
		rs := &inv.replicaSets[i]
		c.add("ReplicaSet "+key(rs), &rs.Spec.Template.Spec, switchover.Reference{Retained: idle(rs)})
	}
	for i := range inv.replicators {
		rc := &inv.replicators[i]
		if rc.Spec.Template != nil {
			c.add("ReplicationController "+key(rc), &rc.Spec.Template.Spec, switchover.Reference{})
		}
	}
	for i := range inv.nodes {
		// Every pod of the node needs it, and no template names it.
		c.addImage("sandbox of Node "+inv.nodes[i].Name, inv.nodes[i].Status.Containerd.SandboxImage, switchover.Reference{})
	}
	for i := range inv.revisions {
		rev := &inv.revisions[i]
		if spec, ok := podSpecOf(rev.Data.Raw); ok {
			c.add("ControllerRevision "+key(rev), spec, switchover.Reference{Retained: !inv.makesPods(rev)})
		}
	}
	for i := range inv.pods {
		pod := &inv.pods[i]
		if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			c.add("Pod "+key(pod), &pod.Spec, switchover.Reference{OwnWorkload: agentPod(pod) || isUninstall(pod)})
		}
	}
}

// idle reports whether a ReplicaSet is only there for a rollback of whoever owns
// it.
func idle(rs *appsv1.ReplicaSet) bool {
	return metav1.GetControllerOf(rs) != nil && rs.Spec.Replicas != nil && *rs.Spec.Replicas == 0 && rs.Status.Replicas == 0
}

// makesPods reports whether pods are still made from a revision: a StatefulSet's
// before a rollout has ended, or below its partition. What others run counts as
// pods, and what they will make as template.
func (inv *inventory) makesPods(rev *appsv1.ControllerRevision) bool {
	return slices.ContainsFunc(inv.stateful, func(s appsv1.StatefulSet) bool {
		return s.Namespace == rev.Namespace && s.Status.CurrentRevision == rev.Name && s.Status.CurrentRevision != s.Status.UpdateRevision
	})
}

// agentPod reports whether a pod is one of our agents. They outlive a change of
// their template, and with it the name that they were started by.
func agentPod(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet" && owner.Name == v1alpha1.DaemonSetAgent && pod.Namespace == v1alpha1.Namespace
}

// counter collects references.
type counter struct {
	bases      []layout.Name
	references []switchover.Reference
	seen       map[switchover.Reference]bool
	problems   []string
}

func (c *counter) problem(p string) {
	if len(c.problems) < 3 {
		c.problems = append(c.problems, p)
	}
}

// add counts the images of a pod; what is known of their user is in like.
func (c *counter) add(user string, spec *corev1.PodSpec, like switchover.Reference) {
	for image := range images(spec) {
		c.addImage(user, image, like)
	}
}

func (c *counter) addImage(user, image string, ref switchover.Reference) {
	name, rest, ok := layout.MatchName(c.bases, image)
	if !ok {
		return
	}
	ref.Name, ref.Image, ref.User = name, rest, user
	if !c.seen[ref] {
		c.seen[ref] = true
		c.references = append(c.references, ref)
	}
}

func (c *counter) refers(spec *corev1.PodSpec) bool {
	for image := range images(spec) {
		if _, _, ok := layout.MatchName(c.bases, image); ok {
			return true
		}
	}
	return false
}

// images are all image references of a pod.
func images(spec *corev1.PodSpec) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i := range spec.InitContainers {
			if !yield(spec.InitContainers[i].Image) {
				return
			}
		}
		for i := range spec.Containers {
			if !yield(spec.Containers[i].Image) {
				return
			}
		}
		for i := range spec.EphemeralContainers {
			if !yield(spec.EphemeralContainers[i].Image) {
				return
			}
		}
		for i := range spec.Volumes {
			if v := spec.Volumes[i].Image; v != nil && !yield(v.Reference) {
				return
			}
		}
	}
}

// required are the images that users list in ConfigMaps, and our own.
func (r *Reconciler) required(inv *inventory) (list, trouble []string) {
	list = []string{r.cfg.Image}
	for i := range inv.required {
		cm := &inv.required[i]
		digests, err := digestsOf(cm)
		if err != nil {
			trouble = append(trouble, fmt.Sprintf("ConfigMap %s: %v", key(cm), err))
		}
		for digest := range digests {
			list = append(list, "@"+digest)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), trouble
}

// digestsOf reads images_digests.json of a ConfigMap: digest -> who needs it.
func digestsOf(cm *corev1.ConfigMap) (map[string]string, error) {
	var modules map[string]map[string]string
	if err := json.Unmarshal([]byte(cm.Data["images_digests.json"]), &modules); err != nil {
		return nil, fmt.Errorf("read images_digests.json: %w", err)
	}
	digests := map[string]string{}
	for module, images := range modules {
		for image, digest := range images {
			source := "module/" + module + "/" + image
			if have := digests[digest]; have == "" || source < have {
				digests[digest] = source
			}
		}
	}
	return digests, nil
}

// sources say who needs an image, for the messages of the image check.
func (r *Reconciler) sources(inv *inventory, census switchover.Census) map[string]string {
	sources := map[string]string{}
	for _, ref := range census.References {
		if sources[ref.Image] == "" {
			sources[ref.Image] = ref.User
		}
	}
	for i := range inv.required {
		digests, _ := digestsOf(&inv.required[i])
		for digest, source := range digests {
			sources["@"+digest] = source
		}
	}
	for i := range inv.deployments {
		d := &inv.deployments[i]
		if d.Namespace != v1alpha1.Namespace || d.Name != v1alpha1.DeploymentDeckhouse {
			continue
		}
		for _, list := range [][]corev1.Container{d.Spec.Template.Spec.InitContainers, d.Spec.Template.Spec.Containers} {
			for _, container := range list {
				for _, ref := range census.References {
					if container.Image == ref.Name.Reference(ref.Image) {
						sources[ref.Image] = "deckhouse/containers/" + container.Name
					}
				}
			}
		}
	}
	sources[r.cfg.Image] = "registry/registry"
	return sources
}

func finished(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}

// podSpecOf finds the pod template in the data of a ControllerRevision of a
// DaemonSet or StatefulSet.
func podSpecOf(raw []byte) (*corev1.PodSpec, bool) {
	var data struct {
		Spec struct {
			Template corev1.PodTemplateSpec `json:"template"`
		} `json:"spec"`
	}
	if json.Unmarshal(raw, &data) != nil || len(data.Spec.Template.Spec.Containers) == 0 {
		return nil, false
	}
	return &data.Spec.Template.Spec, true
}

// key is namespace and name with a slash.
func key(o metav1.Object) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}
