package machine

import (
	"context"
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// writeToken asks for a token of the pod's ServiceAccount, bound to the pod.
func (r *podRunner) writeToken(ctx context.Context, pod *corev1.Pod, path string) error {
	seconds := int64(tokenSeconds)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if err := r.client.SubResource("token").Create(ctx, account, request); err != nil {
		return fmt.Errorf("token of %s for pod %s: %w", account.Name, pod.Name, err)
	}
	return r.cluster.API.WriteTokenKubeconfig(path, request.Status.Token)
}
