package apiserver

import (
	"cmp"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Process is one of the module's processes as the API server sees it.
type Process struct {
	// ServiceAccount is its name, in Namespace.
	ServiceAccount string
	// Namespace is d8-system unless it is set.
	Namespace string
	// Node is the Node that its Pod runs on. Empty: the Pod is not scheduled.
	Node string
	// Pod is the Pod's name; by default it is made of the other names.
	Pod string
}

// As returns the configuration of a process with a token of its
// ServiceAccount, bound to its Pod on its Node as the kubelet would do it.
// What is missing of Node, ServiceAccount and Pod is made.
func (a *API) As(tb testing.TB, p Process) *rest.Config {
	tb.Helper()
	ctx := tb.Context()
	p.Namespace = cmp.Or(p.Namespace, registryv1alpha1.Namespace)
	p.Pod = cmp.Or(p.Pod, p.ServiceAccount+"-"+cmp.Or(p.Node, "unscheduled"))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.ServiceAccount}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Pod},
		Spec: corev1.PodSpec{
			NodeName:           p.Node,
			ServiceAccountName: p.ServiceAccount,
			Containers:         []corev1.Container{{Name: "main", Image: "registry.example.com/main:1"}},
		},
	}
	objects := []client.Object{account, pod}
	if p.Node != "" {
		objects = append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: p.Node}})
	}
	for _, o := range objects {
		if err := client.IgnoreAlreadyExists(a.admin.Create(ctx, o)); err != nil {
			tb.Fatalf("make %T for %s: %v", o, p.Pod, err)
		}
	}
	if err := a.admin.Get(ctx, client.ObjectKeyFromObject(pod), pod); err != nil {
		tb.Fatalf("read pod of %s: %v", p.Pod, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: ptr.To[int64](24 * 60 * 60),
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID,
		},
	}}
	if err := a.admin.SubResource("token").Create(ctx, account, request); err != nil {
		tb.Fatalf("request token for %s: %v", p.Pod, err)
	}
	config := rest.AnonymousClientConfig(a.config)
	config.BearerToken = request.Status.Token
	return config
}
