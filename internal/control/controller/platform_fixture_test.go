package controller

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/layout"
)

// platform makes what an installer makes: nodes, deckhouse-registry, workloads on
// the real address of A.
func (c *testbed) platform() {
	c.t.Helper()
	c.Namespace("d8-monitoring", map[string]string{"heritage": "deckhouse"})
	c.Namespace("mine", nil)
	c.Node("master", true)
	c.Node("worker", false)
	a := c.upstreamA()
	for _, namespace := range []string{v1alpha1.Namespace, "d8-monitoring"} {
		c.RegistrySecret(namespace, a)
	}
	base := layout.NameOf(a)
	c.Make(deployment(v1alpha1.Namespace, "deckhouse", base.Reference(":v1")))
	c.Make(deployment("d8-monitoring", "prometheus", base.Reference("@"+c.digest("alpha"))))
	c.Make(daemonSet("d8-monitoring", "node-exporter", base.Reference("@"+c.digest("beta"))))
	digests := map[string]map[string]string{"prometheus": {"alertmanager": c.digest("gamma"), "trickster": c.digest("delta")}}
	c.Make(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "images", Labels: map[string]string{v1alpha1.LabelRequiredImages: "true"}},
		Data:       map[string]string{"images_digests.json": string(cluster.MustJSON(digests))},
	})
}

// distinctImages is how many items a check of the platform has: deckhouse,
// prometheus, node-exporter, the two listed ones and our own.
const distinctImages = 6

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
