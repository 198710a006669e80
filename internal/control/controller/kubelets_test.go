package controller

import (
	"context"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/test/harness/kubelet"
)

// simKubelets are the DaemonSet controller and the kubelets for the agents, whose
// DaemonSet is OnDelete: it makes a pod where there is none, and ends a pod when it
// is deleted.
type simKubelets struct {
	// Pods with tag broken do not get ready. Agents with tag mute do not report
	// which pod they are.
	broken, mute string
	images       map[string]string // node -> image of its ready agent
	order        []string          // nodes in the order in which their pods were deleted
	mostAway     int               // how many nodes had no agent at the same time, at most
	made         int
}

// withKubelets makes pods for agents.
func (c *testbed) withKubelets() {
	c.sim.set(func(s *simulator) { s.kubelets = &simKubelets{images: map[string]string{}} })
}

// agentPods are the pods of agents as they are now: the simulator goes on.
func (c *testbed) agentPods() simKubelets {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	now := *c.sim.kubelets
	now.images, now.order = maps.Clone(now.images), slices.Clone(now.order)
	return now
}

// agents are the images of the ready agents, by node.
func (c *testbed) agents() map[string]string { return c.agentPods().images }

// agentsRun reports whether the agents of all nodes are ready with the image.
func (c *testbed) agentsRun(image string, nodes int) bool {
	all := c.agents()
	for _, have := range all {
		if have != image {
			return false
		}
	}
	return len(all) == nodes
}

func (s *simulator) agentPods(ctx context.Context, d *appsv1.DaemonSet, nodes []corev1.Node) error {
	s.mu.Lock()
	k := s.kubelets
	s.mu.Unlock()
	if k == nil || d.Name != v1alpha1.DaemonSetAgent {
		return nil
	}
	var pods corev1.PodList
	if err := s.c.List(ctx, &pods, client.InNamespace(d.Namespace), client.MatchingLabels{"app": d.Name}); err != nil {
		return err
	}
	images, byNode := map[string]string{}, map[string]bool{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		byNode[pod.Spec.NodeName] = true
		switch image := pod.Spec.Containers[0].Image; {
		case pod.DeletionTimestamp != nil:
			s.mu.Lock()
			k.order = append(k.order, pod.Spec.NodeName)
			s.mu.Unlock()
			if err := kubelet.Remove(ctx, s.c, pod); err != nil {
				return err
			}
		case excerpt.PodReady(pod):
			images[pod.Spec.NodeName] = image
		}
	}
	away := 0
	for i := range nodes {
		if images[nodes[i].Name] == "" {
			away++
		}
		if byNode[nodes[i].Name] || !cluster.IsReady(&nodes[i]) {
			continue
		}
		if err := s.agentPod(ctx, k, d, nodes[i].Name); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.images = images
	if k.made > len(nodes) { // all nodes have had an agent
		k.mostAway = max(k.mostAway, away)
	}
	return nil
}

func (s *simulator) agentPod(ctx context.Context, k *simKubelets, d *appsv1.DaemonSet, node string) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: d.Namespace, GenerateName: d.Name + "-", Labels: d.Spec.Template.Labels, Annotations: d.Spec.Template.Annotations,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("DaemonSet"))},
	}, Spec: *d.Spec.Template.Spec.DeepCopy()}
	pod.Spec.NodeName, pod.Spec.PriorityClassName = node, ""
	if err := s.c.Create(ctx, pod); err != nil {
		return err
	}
	s.mu.Lock()
	k.made++
	broken := k.broken != "" && strings.HasSuffix(pod.Spec.Containers[0].Image, k.broken)
	s.mu.Unlock()
	return s.podStatus(ctx, pod, broken)
}

// speaks adds to a report the pod that makes it, and reports whether there is one.
func (s *simulator) speaks(ctx context.Context, rn *v1alpha1.RegistryNode) bool {
	s.mu.Lock()
	k := s.kubelets
	s.mu.Unlock()
	if k == nil {
		return true
	}
	var pods corev1.PodList
	if err := s.c.List(ctx, &pods, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{"app": v1alpha1.DaemonSetAgent}); err != nil {
		return false
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Spec.NodeName != rn.Name || !excerpt.PodReady(pod) || pod.DeletionTimestamp != nil {
			continue
		}
		rn.Status.AgentPod, rn.Status.AgentVersion = string(pod.UID), pod.Spec.Containers[0].Image
		if s.isMute(k, pod) {
			rn.Status.AgentPod, rn.Status.AgentVersion = "", ""
		}
		return true
	}
	return false
}

func (s *simulator) isMute(k *simKubelets, pod *corev1.Pod) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return k.mute != "" && strings.HasSuffix(pod.Spec.Containers[0].Image, k.mute)
}
