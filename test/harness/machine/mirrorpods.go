package machine

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

// isMirror reports whether a Pod only shows what a node runs by a file.
func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

// playStaticPods plays those of each node that is not played yet, until ctx ends.
func (s *Standins) playStaticPods(ctx context.Context, all *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.cluster.nodes() {
		if s.statics[n.Name] != nil {
			continue
		}
		mirror := &mirrorPod{s: s, node: n.Name}
		k := &StaticPods{
			Run: s.cluster.Run, Space: n.Space, Log: s.log, Tell: mirror.tell,
			Pull: func(ctx context.Context, image string) error { // nobody has a pull secret for it
				if there, err := n.Has(ctx, image); there || err != nil {
					return err
				}
				return n.Pull(ctx, image, Login{})
			},
		}
		s.statics[n.Name] = k
		all.Go(func() { k.Play(ctx) })
	}
}

// StaticPods are those of a node.
func (s *Standins) StaticPods(node string) (*StaticPods, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.statics[node]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("no static pods are played on node %q", node)
}

// mirrorPod shows the static pods of a node in the API server, as its kubelet would.
type mirrorPod struct {
	s    *Standins
	node string
}

func (m *mirrorPod) tell(ctx context.Context, pod *corev1.Pod, f *kubelet.Fate) {
	if err := m.show(ctx, pod, f); err != nil && ctx.Err() == nil {
		m.s.log.Warn("mirror pod", "node", m.node, "pod", pod.Name, "err", err)
	}
}

func (m *mirrorPod) show(ctx context.Context, pod *corev1.Pod, f *kubelet.Fate) error {
	shown := pod.DeepCopy()
	shown.Name += "-" + m.node
	shown.Spec.NodeName = m.node
	metav1.SetMetaDataAnnotation(&shown.ObjectMeta, corev1.MirrorPodAnnotationKey, "demo")
	if f == nil {
		return client.IgnoreNotFound(m.s.client.Delete(ctx, shown, client.GracePeriodSeconds(0)))
	}
	if err := m.s.client.Create(ctx, shown.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	return kubelet.Report(ctx, m.s.client, shown, *f)
}
