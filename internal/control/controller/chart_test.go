package controller

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/kubelet"
)

func (c *testbed) controllerImage() string {
	return c.image(v1alpha1.Namespace, v1alpha1.DeploymentController)
}

// helmApplies applies the controller's Deployment with an image as Helm does,
// without force.
func (c *testbed) helmApplies(d *appsv1.Deployment, image string) error {
	d = d.DeepCopy()
	d.Spec.Template.Spec.Containers[0].Image = image
	d.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
	return c.Patch(c.t.Context(), d, client.Apply, client.FieldOwner("helm")) //nolint:staticcheck // typed objects have no other way here
}

// TestHelmAndTheController: both write the same Deployment. Helm never gets a
// conflict, and an image that it puts back from an old registry does not stay.
func TestHelmAndTheController(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := deployment(v1alpha1.Namespace, v1alpha1.DeploymentController, layout.NameOf(c.upstreamA()).Reference(c.cfg.Image))
	d.Spec.Template.Spec.Containers[0].Args = []string{"--image=" + c.cfg.Image}
	release := d.DeepCopy()
	installed := release.Spec.Template.Spec.Containers[0].Image
	if err := c.helmApplies(release, installed); err != nil {
		t.Fatal(err)
	}
	c.begin()
	c.switchTo(c.upstreamB())
	atB := layout.NameOf(c.upstreamB()).Reference(c.cfg.Image)
	c.wantReleased(atB)

	// An upgrade keeps the registry of the image; a rollback does not.
	if err := c.helmApplies(release, atB); err != nil {
		t.Errorf("upgrade: %v", err)
	}
	if err := c.helmApplies(release, installed); err != nil {
		t.Errorf("rollback: %v", err)
	}
	c.wantReleased(atB)
	if err := c.helmApplies(release, "elsewhere.example.test/forgotten"+strings.TrimPrefix(installed, layout.NameOf(c.upstreamA()).String())); err != nil {
		t.Errorf("rollback to a registry that nobody knows: %v", err)
	}
	c.wantReleased(atB)

	// An image of somebody else is not moved.
	if err := c.helmApplies(release, "elsewhere.example.test/mine:dev"); err != nil {
		t.Fatal(err)
	}
	c.repointsUninstall(installed, atB)
	if got := c.controllerImage(); got != "elsewhere.example.test/mine:dev" {
		t.Errorf("an image of the operator's became %s", got)
	}
}

// wantReleased waits until the Deployment has the image and we own no field of its
// spec.
func (c *testbed) wantReleased(image string) {
	c.t.Helper()
	c.eventually("the controller is on "+image+" and the fields are Helm's or nobody's", func() bool {
		var d appsv1.Deployment
		if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentController}, &d); err != nil {
			c.t.Fatal(err)
		}
		return d.Spec.Template.Spec.Containers[0].Image == image && !slices.ContainsFunc(d.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
			return e.Manager == v1alpha1.ManagedBy && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
		})
	})
}

// repointsUninstall makes the Pod of helm uninstall with an image of another
// registry, and waits until it is re-pointed.
func (c *testbed) repointsUninstall(stored, want string) {
	c.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.PodUninstall, Labels: map[string]string{"app": v1alpha1.PodUninstall}},
		Spec:       corev1.PodSpec{NodeName: "master", RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "uninstall", Image: stored}}},
	}
	c.Make(pod)
	if err := kubelet.Report(c.t.Context(), c, pod, kubelet.Fate{Waiting: kubelet.ErrImagePull}); err != nil {
		c.t.Fatal(err)
	}
	c.eventually("the uninstallation's image is re-pointed", func() bool {
		if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			c.t.Fatal(err)
		}
		return pod.Spec.Containers[0].Image == want
	})
}
