package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// TestARefusalStopsTheStepWithNothingChanged: if a policy refuses one of the patches,
// none is made.
func TestARefusalStopsTheStepWithNothingChanged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	lift := c.forbidFixedAddress("prometheus")
	c.begin()
	c.ask(settingsOf(c.upstreamB()))
	v := c.until("it is refused", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionSwitch).Message, "Deployment d8-monitoring/prometheus")
	})
	t.Log(v.condition(v1alpha1.ConditionSwitch).Message)
	c.wantOldImages()
	c.wantRegistry(c.upstreamA().Base())
	lift()
	c.reaches(switchover.Direct, c.upstreamB())
	c.wantImages(layout.Fixed())
}

func (c *testbed) wantOldImages() {
	c.t.Helper()
	for _, where := range [][2]string{{v1alpha1.Namespace, "deckhouse"}, {"d8-monitoring", "prometheus"}} {
		if got := c.image(where[0], where[1]); !strings.HasPrefix(got, c.upstreamA().Base()) {
			c.t.Errorf("%s was re-pointed to %s", where[1], got)
		}
	}
}

// forbidFixedAddress installs a policy that refuses the fixed address in one
// Deployment.
func (c *testbed) forbidFixedAddress(name string) (lift func()) {
	c.t.Helper()
	unless := "object.metadata.name != '" + name + "' || !object.spec.template.spec.containers.exists(c, c.image.startsWith('registry.d8-system.svc'))"
	return c.forbid("no-fixed-address", "deployments", "apps", unless, func() error {
		var d appsv1.Deployment
		if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: "d8-monitoring", Name: name}, &d); err != nil {
			c.t.Fatal(err)
		}
		d.Spec.Template.Spec.Containers[0].Image = layout.Fixed().Reference(":1")
		return c.Update(c.t.Context(), &d, client.DryRunAll)
	})
}

func TestAProblemQuotesNothing(t *testing.T) {
	t.Parallel()
	cause := apierrors.NewInvalid(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), "x", nil)
	cause.ErrStatus.Message = `Secret "x" is invalid: data: Invalid value: "SECRET"`
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{cluster.ErrLost, ""},
		{errors.New("something else: SECRET"), ""},
		{fmt.Errorf("apply DaemonSet d8-system/registry-agent: %w", cause), "apply DaemonSet d8-system/registry-agent: Invalid"},
		{fmt.Errorf("write: %w", apierrors.NewForbidden(corev1.Resource("secrets"), "x", nil)), "write: Forbidden"},
		{state.Public{Err: fmt.Errorf("mark node w1: %w", cause)}, `mark node w1: Secret "x" is invalid: data: Invalid value: "SECRET"`}, // whoever says so knows that it quotes nothing
		{errors.Join(errors.New("SECRET"), fmt.Errorf("a: %w", cause), cluster.ErrLost, fmt.Errorf("b: %w", apierrors.NewForbidden(corev1.Resource("secrets"), "x", nil))), "a: Invalid\nb: Forbidden"},
	} {
		if got := problemOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
