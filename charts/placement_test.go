package charts

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Controller and uninstallation, whose tokens are root's equal, run on control-plane
// nodes only where there is one that can be seen.
func TestPlacement(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	required := func(where string, args ...string) {
		t.Helper()
		args = append([]string{"template", "registry", "registry", "-f", "testdata/minimal.yaml", "--dry-run=server",
			"-s", "templates/controller.yaml", "-s", "templates/uninstall.yaml"}, args...)
		out := c.helm(t, args...)
		if got := strings.Count(out, "requiredDuringScheduling"); got != map[bool]int{true: 2}[strings.HasPrefix(where, "required")] {
			t.Errorf("%s: %d of 2 require the control plane\n%s", where, got, out)
		}
	}
	node := func(name, label string) {
		t.Helper()
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: ""}}}
		if err := c.Create(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	required("preferred without a node")
	node("worker", "node-role.kubernetes.io/worker")
	required("preferred without a control-plane node, as on managed Kubernetes")
	required("required if it is asked for", "--set", "controller.placement=control-plane")
	node("master", "node-role.kubernetes.io/control-plane")
	required("required with a control-plane node")
	required("preferred if it is asked for", "--set", "controller.placement=any")
	if out, err := helm(t, "template", "registry", "registry", "-f", "testdata/minimal.yaml", "--set", "controller.placement=master"); err == nil || !strings.Contains(out, "placement") {
		t.Errorf("a word that is none: %v %s", err, out)
	}
}
