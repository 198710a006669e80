package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

// StandinsNote names what is played, for the output of programs.
const StandinsNote = "played by test/harness/machine/standins.go: Node readiness, pods and status of Deployments, ReplicaSets, DaemonSets and StatefulSets " +
	"(a pod runs after a real CRI pull of its images by its node's containerd; ours run as real processes, also those of static pods), the address of Service registry"

const (
	hashLabel  = "pod-template-hash"
	slotLabel  = "demo.deckhouse.io/slot"
	ownerLabel = "demo.deckhouse.io/owner"
	// standinPause is between two passes, standinEvery the longest time without.
	standinPause = 50 * time.Millisecond
	standinEvery = time.Second
	// mostBehind passes in a row may fail because the view is behind.
	mostBehind = 10
)

// Standins play kubelet, scheduler, the workload controllers and kube-proxy, as
// far as a switch of the registry depends on them. All that is played is in this
// file; workloads.go reads what to play, pods.go does the real part of it, staticpods.go
// runs what nodes are told by a file, service.go has the addresses of Services.
type Standins struct {
	cluster *Cluster
	client  client.Client
	view    *View
	pods    *podRunner
	log     *slog.Logger

	mu       sync.Mutex
	notReady map[string]bool // nodes that a story declared lost
	services map[netip.AddrPort]*Service
	statics  map[string]*StaticPods // by node
	written  map[types.UID]string   // statuses as written last
}

// NewStandins makes the stand-ins; Run plays.
func NewStandins(c *Cluster, cl client.Client, view *View, rec *Recorder, log *slog.Logger) *Standins {
	return &Standins{
		cluster: c, client: cl, view: view, log: log, pods: newPodRunner(c, cl, rec, log),
		notReady: map[string]bool{}, services: map[netip.AddrPort]*Service{}, statics: map[string]*StaticPods{}, written: map[types.UID]string{},
	}
}

// AgentStarts is how often a process of a DaemonSet's pod was started, by node.
func (s *Standins) AgentStarts() map[string]int { return s.pods.startsByNode() }

// SetReady declares a node Ready or lost.
func (s *Standins) SetReady(node string, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notReady[node] = !ready
}

// StopAgent stops the processes of pods on a node, StartAgent starts them again.
func (s *Standins) StopAgent(node string) { s.pods.pause(node, true) }

// StartAgent undoes StopAgent.
func (s *Standins) StartAgent(node string) { s.pods.pause(node, false) }

// Run plays until ctx ends. It returns early when a process of a pod does not
// stay up.
func (s *Standins) Run(ctx context.Context) error {
	defer s.pods.stopAll()
	var statics sync.WaitGroup
	defer statics.Wait()
	for stuck := 0; ; {
		s.playStaticPods(ctx, &statics)
		select {
		case err := <-s.pods.broken:
			return err
		default:
		}
		err := s.pass(ctx)
		if stuck++; err == nil {
			stuck = 0
		}
		if err != nil && ctx.Err() == nil && (!behind(err) || stuck > mostBehind) {
			s.log.Warn("stand-ins", "err", err)
		}
		if pause(ctx, standinPause) != nil || s.view.Wait(ctx, standinEvery) != nil {
			return nil // the end of ctx is the end of the play
		}
	}
}

// behind reports an error that comes from a view older than the cluster.
func behind(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err)
}

func (s *Standins) pass(ctx context.Context) error {
	nodes, err := s.nodes(ctx)
	if err != nil {
		return err
	}
	workloads, err := listWorkloads(ctx, s.view, nodes)
	if err != nil {
		return err
	}
	var pods corev1.PodList
	if err := s.view.List(ctx, &pods); err != nil {
		return err
	}
	if err := s.collect(ctx, workloads); err != nil {
		return err
	}
	byOwner := map[string][]*corev1.Pod{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		key := pod.Labels[ownerLabel]
		byOwner[key] = append(byOwner[key], pod)
	}
	s.pods.sync(ctx, pods.Items)
	for _, w := range workloads {
		key := w.key()
		if d, ok := w.object.(*appsv1.Deployment); ok {
			if err := s.replicaSet(ctx, d, &w); err != nil {
				return err
			}
		}
		if err := s.play(ctx, w, nodes, byOwner[key]); err != nil {
			return fmt.Errorf("%s %s/%s: %w", w.kind, w.object.GetNamespace(), w.object.GetName(), err)
		}
		delete(byOwner, key)
	}
	for key, orphans := range byOwner {
		for _, pod := range orphans {
			if key != "" {
				if err := s.remove(ctx, pod); err != nil {
					return err
				}
			}
		}
	}
	return s.routeService(ctx, pods.Items)
}

// nodes keeps the readiness of Nodes as the story wants it.
func (s *Standins) nodes(ctx context.Context) ([]corev1.Node, error) {
	var nodes corev1.NodeList
	if err := s.view.List(ctx, &nodes); err != nil {
		return nil, err
	}
	slices.SortFunc(nodes.Items, func(a, b corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	for i := range nodes.Items {
		node := &nodes.Items[i]
		s.mu.Lock()
		want := corev1.ConditionTrue
		if s.notReady[node.Name] {
			want = corev1.ConditionUnknown
		}
		s.mu.Unlock()
		if j := slices.IndexFunc(node.Status.Conditions, isReady); j >= 0 && node.Status.Conditions[j].Status == want {
			continue
		}
		now := metav1.Now()
		node = node.DeepCopy()
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: want, Reason: "Demo", LastHeartbeatTime: now, LastTransitionTime: now}}
		if err := s.client.Status().Update(ctx, node); err != nil {
			return nil, err
		}
	}
	return nodes.Items, nil
}

func isReady(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }

// collect deletes ReplicaSets whose Deployment is gone, as the garbage collector
// would.
func (s *Standins) collect(ctx context.Context, workloads []workload) error {
	exists := map[types.UID]bool{}
	for _, w := range workloads {
		exists[w.object.GetUID()] = true
	}
	var all appsv1.ReplicaSetList
	if err := s.view.List(ctx, &all); err != nil {
		return err
	}
	for i := range all.Items {
		owner := metav1.GetControllerOf(&all.Items[i])
		if owner == nil || exists[owner.UID] {
			continue
		}
		if err := s.client.Delete(ctx, &all.Items[i]); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// replicaSet keeps the one of the current template, and old ones with no
// replicas: rollout undo goes back to them, so their images are in use.
func (s *Standins) replicaSet(ctx context.Context, d *appsv1.Deployment, w *workload) error {
	want := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Namespace: d.Namespace, Name: d.Name + "-" + w.hash, Labels: map[string]string{hashLabel: w.hash},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))},
	}}
	var all appsv1.ReplicaSetList
	if err := s.view.List(ctx, &all, client.InNamespace(d.Namespace)); err != nil {
		return err
	}
	found := false
	for i := range all.Items {
		rs := &all.Items[i]
		if !metav1.IsControlledBy(rs, d) {
			continue
		}
		n := int32(0)
		if rs.Name == want.Name {
			w.owner = *metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
			found, n = true, int32(len(w.slots))
		}
		if *rs.Spec.Replicas != n {
			rs = rs.DeepCopy()
			rs.Spec.Replicas = &n
			if err := s.client.Update(ctx, rs); err != nil {
				return err
			}
		}
	}
	if found {
		return nil
	}
	n := int32(len(w.slots))
	want.Spec = appsv1.ReplicaSetSpec{Replicas: &n, Selector: d.Spec.Selector.DeepCopy(), Template: *w.template.DeepCopy()}
	if err := s.client.Create(ctx, want); err != nil {
		return err // already there: the view is behind, the next pass sees it
	}
	w.owner = *metav1.NewControllerRef(want, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))
	return nil
}

// play brings the pods of one workload a step further and writes its status.
func (s *Standins) play(ctx context.Context, w workload, nodes []corev1.Node, pods []*corev1.Pod) error {
	bySlot := map[string][]*corev1.Pod{}
	for _, pod := range pods {
		if pod.DeletionTimestamp == nil || !w.surge { // without surge the next pod waits for the end of this one
			bySlot[pod.Labels[slotLabel]] = append(bySlot[pod.Labels[slotLabel]], pod)
		}
	}
	busy := false // one slot at a time
	count := counts{wanted: len(w.slots)}
	for i, node := range w.slots {
		slot := fmt.Sprint(i)
		if w.kind == "DaemonSet" {
			slot = node
		}
		current, old := split(bySlot[slot], w.hash)
		delete(bySlot, slot)
		count.add(current, old)
		if err := s.replace(ctx, w, current, old, busy, func() error {
			if !schedulable(node, w.template, nodes) {
				return nil
			}
			return s.create(ctx, w, node, slot)
		}); err != nil {
			return err
		}
		busy = busy || current == nil || !kubelet.Ready(current)
	}
	for _, rest := range bySlot { // nobody wants these any more
		count.total += len(rest)
		for _, pod := range rest {
			if err := s.remove(ctx, pod); err != nil {
				return err
			}
		}
	}
	return s.writeStatus(ctx, w, count)
}

// replace does the next step from the old pod of a slot to the current one. A
// missing pod is made even while another slot is busy.
func (s *Standins) replace(ctx context.Context, w workload, current, old *corev1.Pod, busy bool, create func() error) error {
	switch {
	case current == nil && old == nil:
		return create()
	case current == nil && (w.onDelete || busy):
		return nil
	case current == nil && w.surge:
		return create()
	case current == nil:
		return s.remove(ctx, old)
	case old != nil && kubelet.Ready(current):
		return s.remove(ctx, old)
	}
	return nil
}

func (s *Standins) create(ctx context.Context, w workload, node, slot string) error {
	pod := &corev1.Pod{ObjectMeta: *w.template.ObjectMeta.DeepCopy(), Spec: *w.template.Spec.DeepCopy()}
	// The name follows from what the pod is: a view behind makes no second one.
	pod.Namespace, pod.Name = w.object.GetNamespace(), fmt.Sprintf("%s-%s-%s", w.object.GetName(), w.hash, slot)
	if pod.Labels == nil {
		pod.Labels = map[string]string{}
	}
	pod.Labels[hashLabel], pod.Labels[slotLabel], pod.Labels[ownerLabel] = w.hash, slot, w.key()
	pod.OwnerReferences = []metav1.OwnerReference{w.owner}
	pod.Spec.NodeName = node
	if err := s.client.Create(ctx, pod); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

// remove has a pod go: at once, or when the process that it runs has ended.
func (s *Standins) remove(ctx context.Context, pod *corev1.Pod) error {
	if pod.DeletionTimestamp != nil {
		return nil // it is going
	}
	seconds := int64(0)
	if _, ours := s.pods.program(pod); ours {
		seconds = graceSeconds
	}
	return client.IgnoreNotFound(s.client.Delete(ctx, pod, client.GracePeriodSeconds(seconds)))
}

// writeStatus writes the fields of all kinds; the API server drops those that a
// kind does not have.
func (s *Standins) writeStatus(ctx context.Context, w workload, c counts) error {
	status := map[string]any{
		"observedGeneration": w.object.GetGeneration(),
		"replicas":           c.total, "updatedReplicas": c.updated, "readyReplicas": c.ready, "availableReplicas": c.ready, "unavailableReplicas": max(0, c.wanted-c.ready),
		"desiredNumberScheduled": c.wanted, "currentNumberScheduled": c.total, "updatedNumberScheduled": c.updated,
		"numberReady": c.ready, "numberAvailable": c.ready, "numberUnavailable": max(0, c.wanted-c.ready), "numberMisscheduled": 0,
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	if s.written[w.object.GetUID()] == string(patch) {
		return nil
	}
	s.written[w.object.GetUID()] = string(patch)
	return s.client.Status().Patch(ctx, w.object.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, patch))
}
