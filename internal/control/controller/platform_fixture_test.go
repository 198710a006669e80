package controller

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// platform makes what an installer makes: nodes, deckhouse-registry, workloads on
// the real address of A.
func (c *testbed) platform() {
	c.t.Helper()
	c.namespace("d8-monitoring", map[string]string{"heritage": "deckhouse"})
	c.namespace("mine", nil)
	c.node("master", true)
	c.node("worker", false)
	a := c.upstreamA()
	for _, namespace := range []string{v1alpha1.Namespace, "d8-monitoring"} {
		c.create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.SecretRegistry},
			Type:       corev1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{
				"address": []byte(a.Host), "path": []byte("/" + a.Path), "scheme": []byte(a.Scheme), "ca": []byte(a.CA),
				corev1.DockerConfigJsonKey: dockerConfig(a.Host, a.Credentials),
			},
		})
	}
	base := layout.NameOf(a)
	c.create(deployment(v1alpha1.Namespace, "deckhouse", base.Reference(":v1")))
	c.create(deployment("d8-monitoring", "prometheus", base.Reference("@"+c.digest("alpha"))))
	c.create(daemonSet("d8-monitoring", "node-exporter", base.Reference("@"+c.digest("beta"))))
	digests := map[string]map[string]string{"prometheus": {"alertmanager": c.digest("gamma"), "trickster": c.digest("delta")}}
	c.create(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "images", Labels: map[string]string{v1alpha1.LabelRequiredImages: "true"}},
		Data:       map[string]string{"images_digests.json": string(cluster.MustJSON(digests))},
	})
}

// dockerConfig is the content of an image pull secret.
func dockerConfig(host string, c upstream.Credentials) []byte {
	return cluster.MustJSON(map[string]any{"auths": map[string]any{host: map[string]string{"username": c.Username, "password": c.Password}}})
}

// distinctImages is how many items a check of the platform has: deckhouse,
// prometheus, node-exporter, the two listed ones and our own.
const distinctImages = 6

func (c *testbed) namespace(name string, labels map[string]string) {
	c.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if err := c.Create(c.t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		c.t.Fatal(err)
	}
}

func (c *testbed) node(name string, controlPlane bool) {
	c.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
	if controlPlane {
		n.Labels[cluster.LabelControlPlane] = ""
	}
	c.create(n)
	n.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "boot-of-" + name, Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.4.2"}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := c.Status().Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testbed) create(o client.Object) {
	c.t.Helper()
	if err := c.Create(c.t.Context(), o); err != nil {
		c.t.Fatalf("create %T %s: %v", o, cluster.Key(o), err)
	}
}

func template(name, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			Containers:       []corev1.Container{{Name: "main", Image: image}},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: v1alpha1.SecretRegistry}},
		},
	}
}

func deployment(namespace, name, image string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"heritage": "deckhouse"}},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: template(name, image),
		},
	}
}

func daemonSet(namespace, name, image string) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"heritage": "deckhouse"}},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
			Template: template(name, image),
		},
	}
}
