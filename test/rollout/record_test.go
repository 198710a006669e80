package rollout

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/installation"
)

// Annotations that re-pointing leaves on a workload.
const (
	annotationRepointed = "registry.deckhouse.io/repointed"
	annotationAvailable = "registry.deckhouse.io/available-before"
)

// watchAll tells of every object of a kind until ctx ends.
func watchAll(ctx context.Context, c client.WithWatch, list client.ObjectList, tell func(o client.Object, deleted bool)) error {
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, list)
		if err != nil {
			return fmt.Errorf("watch %T: %w", list, err)
		}
		for event := range w.ResultChan() {
			if o, ok := event.Object.(client.Object); ok && (event.Type == watch.Added || event.Type == watch.Modified || event.Type == watch.Deleted) {
				tell(o, event.Type == watch.Deleted)
			}
		}
		w.Stop()
	}
	return nil
}

// recorder keeps every version of every workload.
type recorder struct {
	mu     sync.Mutex
	events []event
}

type event struct {
	revision uint64 // one order over all kinds: etcd's
	key      string
	object   client.Object
	deleted  bool
}

// record starts recording; on is called with each as well.
func (c *cluster) record(on func(key string, o client.Object)) *recorder {
	r := &recorder{}
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &appsv1.StatefulSetList{}, &appsv1.DaemonSetList{}, &batchv1.CronJobList{}} {
		installation.Background(c.t, func(ctx context.Context) error {
			return watchAll(ctx, c.watch, list, func(o client.Object, deleted bool) {
				revision, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
				if err != nil {
					c.t.Errorf("version %q: %v", o.GetResourceVersion(), err)
				}
				r.mu.Lock()
				r.events = append(r.events, event{revision, keyOf(o), o, deleted})
				r.mu.Unlock()
				on(keyOf(o), o)
			})
		})
	}
	return r
}

// keyOf is "Deployment d8-monitoring/web".
func keyOf(o client.Object) string {
	kind := fmt.Sprintf("%T", o)[len("*v1."):]
	return kind + " " + o.GetNamespace() + "/" + o.GetName()
}

// rollout is what became of one workload from the moment it was re-pointed.
type rollout struct {
	began, ended uint64
	lowest       int // available
	before       int
	last         client.Object
}

// inOrder is what was recorded, as it happened.
func (r *recorder) inOrder() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := slices.Clone(r.events)
	slices.SortFunc(events, func(a, b event) int { return int(int64(a.revision) - int64(b.revision)) })
	return events
}

// changes is how often the template of each workload was changed, and so its Pods
// replaced, and of which something else than images was.
func (r *recorder) changes() (changes map[string]int, others []string) {
	changes, was := map[string]int{}, map[string]client.Object{}
	for _, e := range r.inOrder() {
		if before := was[e.key]; before != nil && !equality.Semantic.DeepEqual(templateOf(before), templateOf(e.object)) {
			changes[e.key]++
			if !equality.Semantic.DeepEqual(withoutImages(before), withoutImages(e.object)) {
				others = append(others, e.key)
			}
		}
		was[e.key] = e.object
	}
	return changes, others
}

// withoutImages is a template without what a switch changes.
func withoutImages(o client.Object) *corev1.PodTemplateSpec {
	t := templateOf(o).DeepCopy()
	for _, containers := range [][]corev1.Container{t.Spec.InitContainers, t.Spec.Containers} {
		for i := range containers {
			containers[i].Image = ""
		}
	}
	for i := range t.Spec.Volumes {
		if v := t.Spec.Volumes[i].Image; v != nil {
			v.Reference = ""
		}
	}
	if o.GetName() == "deckhouse" {
		delete(t.Annotations, v1alpha1.AnnotationRegistryChecksum)
	}
	return t
}

// wantChanges: nobody's Pods are replaced but once, for other images.
func (c *cluster) wantChanges(rows map[string]row, all map[string]*rollout, r *recorder) {
	c.t.Helper()
	owners := "Deployment " + platform + "/owners" // which its owner changes, too
	changes, others := r.changes()
	for key, row := range rows {
		want := 0
		if row.moved || strings.HasSuffix(key, "/doomed") {
			want++
		}
		if key == owners {
			want++
		}
		if row.moved && all[key] == nil || changes[key] != want {
			c.t.Errorf("%s had its template changed %d times, want %d", key, changes[key], want)
		}
	}
	for _, key := range others {
		if _, known := rows[key]; known && key != owners {
			c.t.Errorf("%s had more changed than its images", key)
		}
	}
}

// history replays what was recorded: each rollout, and how many were under way
// at most.
func (r *recorder) history(countless func(key string) bool) (all map[string]*rollout, most int) {
	all = map[string]*rollout{}
	for _, e := range r.inOrder() {
		ro := all[e.key]
		if e.object.GetAnnotations()[annotationRepointed] == "" {
			continue
		}
		if ro == nil {
			n, _ := strconv.Atoi(e.object.GetAnnotations()[annotationAvailable])
			ro = &rollout{began: e.revision, before: n, lowest: n}
			all[e.key] = ro
		}
		ro.last = e.object
		available, done := progress(e.object, ro.before)
		ro.lowest = min(ro.lowest, available)
		if ro.ended == 0 && (done || e.deleted) {
			ro.ended = e.revision
		}
		underway := 0
		for key, other := range all {
			if other.ended == 0 && !countless(key) {
				underway++
			}
		}
		most = max(most, underway)
	}
	return all, most
}

// progress is how many Pods are available, and whether the rollout has ended,
// as Kubernetes tells it.
func progress(o client.Object, before int) (available int, done bool) {
	switch o := o.(type) {
	case *appsv1.Deployment:
		s, n := o.Status, *o.Spec.Replicas
		done = s.ObservedGeneration == o.Generation && (o.Spec.Paused ||
			s.UpdatedReplicas >= n && (before == 0 || s.Replicas <= s.UpdatedReplicas) && int(s.AvailableReplicas) >= min(before, int(n)))
		return int(s.AvailableReplicas), done
	case *appsv1.StatefulSet:
		s, n := o.Status, *o.Spec.Replicas
		if u := o.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
			n -= *u.Partition
		}
		onDelete := o.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType
		return int(s.AvailableReplicas), s.ObservedGeneration == o.Generation && (onDelete || s.UpdatedReplicas >= n && int(s.AvailableReplicas) >= before)
	case *appsv1.DaemonSet:
		s := o.Status
		onDelete := o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
		return int(s.NumberAvailable), s.ObservedGeneration == o.Generation && (onDelete || s.UpdatedNumberScheduled >= s.DesiredNumberScheduled && int(s.NumberAvailable) >= before)
	}
	return 0, true
}

// podsOf are the Pods of a workload that run.
func (c *cluster) podsOf(o client.Object) []corev1.Pod {
	c.t.Helper()
	var pods corev1.PodList
	if err := c.List(c.t.Context(), &pods, client.InNamespace(o.GetNamespace()), client.MatchingLabels{"app": o.GetName()}); err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || p.Spec.NodeName == lost })
}
