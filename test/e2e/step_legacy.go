package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// proxyFromLegacy switches to Proxy where nodes know no registry: the kubelet gives the agent's
// image, which it pulled with a pull secret, to no static pod. A DaemonSet runs the store there.
func (s *story) proxyFromLegacy(ctx context.Context) error {
	if err := s.toProxy(ctx); err != nil {
		return err
	}
	if err := s.secretStore(ctx); err != nil {
		return err
	}
	now, err := s.look(ctx)
	if err != nil {
		return err
	}
	s.expectRestarts("containerd was restarted once on "+oldNode+", and on no other node", s.before, now, map[string]int{oldNode: 1})
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	return s.pulledByStore(ctx, "other")
}

// secretStore looks at the pod of a store that is no static one.
func (s *story) secretStore(ctx context.Context) error {
	if _, err := s.shell(ctx, "d8 k -n d8-system get pods,daemonsets -l type=node-services -o wide"); err != nil {
		return err
	}
	var pods corev1.PodList
	if err := s.client.List(ctx, &pods, client.InNamespace(system), client.MatchingLabels{v1alpha1.LabelType: v1alpha1.TypeStore}); err != nil {
		return fmt.Errorf("list Pods of stores: %w", err)
	}
	var found []string
	for _, pod := range pods.Items {
		owner := metav1.GetControllerOf(&pod)
		if owner == nil || !podReady(&pod) {
			continue
		}
		found = append(found, fmt.Sprintf("%s %s on %s with %v", owner.Kind, owner.Name, pod.Spec.NodeName, pod.Spec.ImagePullSecrets))
	}
	want := fmt.Sprintf("DaemonSet registry-nodeservices-1 on %s with [{%s}]", storeNode, v1alpha1.SecretBootstrap)
	s.expect("one store is Ready, by a DaemonSet with the module's pull secret", unless(len(pods.Items) == 1 && slices.Equal(found, []string{want}), "%d pods, Ready are %q", len(pods.Items), found))
	n, err := s.cluster.Node(storeNode)
	if err != nil {
		return err
	}
	_, err = n.Run(ctx, "", "test", "!", "-e", storeManifest)
	s.expect("there is no static pod beside it", err)
	return nil
}

// legacyAgain goes back to where nodes know no registry.
func (s *story) legacyAgain(ctx context.Context) error {
	if _, err := s.cluster.Kubectl(ctx, moduleConfig("{mode: Unmanaged}"), "apply", "-f", "-"); err != nil {
		return err
	}
	if err := s.ready(ctx, "Unmanaged"); err != nil {
		return err
	}
	s.expect("the store's DaemonSet and its pod are gone", until(ctx, "the end of the store", gone, func(ctx context.Context) error {
		var pods corev1.PodList
		err := s.client.List(ctx, &pods, client.InNamespace(system), client.MatchingLabels{v1alpha1.LabelType: v1alpha1.TypeStore})
		var sets appsv1.DaemonSetList
		err = errors.Join(err, s.client.List(ctx, &sets, client.InNamespace(system), client.MatchingLabels{v1alpha1.LabelType: v1alpha1.TypeStore}))
		if err == nil && len(pods.Items)+len(sets.Items) > 0 {
			return fmt.Errorf("%d pods and %d DaemonSets are there", len(pods.Items), len(sets.Items))
		}
		return err
	}))
	n, err := s.cluster.Node(storeNode)
	if err != nil {
		return err
	}
	_, err = n.Run(ctx, "", "test", "!", "-e", storeFiles)
	s.expect(storeFiles+" is gone", err)
	if err := s.ownersFollow(ctx); err != nil {
		return err
	}
	if _, err := s.shell(ctx, "d8 k -n d8-system delete secret registry-bashible-config"); err != nil {
		return err
	}
	if err := s.waitCondition(ctx, "Ready", metav1.ConditionFalse); err != nil {
		return err
	}
	if err := s.waitCondition(ctx, "Ready", metav1.ConditionTrue); err != nil {
		return err
	}
	return s.enough(ctx, fewest)
}
