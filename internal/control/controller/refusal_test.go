package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// TestARefusalStopsTheStepWithNothingChanged: if a policy refuses one of the patches,
// none is made.
func TestARefusalStopsTheStepWithNothingChanged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	lift := c.forbidFixedAddress("prometheus")
	c.start(nil)
	c.reaches(switchover.Unmanaged, c.upstreamA())
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

// forbidFixedAddress installs a policy against the fixed address in one Deployment,
// and waits until it works.
func (c *testbed) forbidFixedAddress(name string) (lift func()) {
	c.t.Helper()
	ctx := c.t.Context()
	meta := metav1.ObjectMeta{Name: "test-no-fixed-address"}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			ResourceNames: []string{name},
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
			},
		}}},
		Validations: []admissionv1.Validation{{Expression: "!object.spec.template.spec.containers.exists(c, c.image.startsWith('registry.d8-system.svc'))", Message: "images must come from the company's registry"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: meta.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	for _, o := range []client.Object{policy, binding} {
		c.create(o)
	}
	lift = func() {
		for _, o := range []client.Object{binding, policy} {
			if err := c.Delete(ctx, o); err != nil && !apierrors.IsNotFound(err) {
				c.t.Error(err)
			}
		}
	}
	c.eventually("the policy is in force", func() bool {
		var d appsv1.Deployment
		if err := c.Get(ctx, client.ObjectKey{Namespace: "d8-monitoring", Name: name}, &d); err != nil {
			c.t.Fatal(err)
		}
		d.Spec.Template.Spec.Containers[0].Image = layout.Fixed().Reference(":1")
		return apierrors.IsInvalid(c.Update(ctx, &d, client.DryRunAll))
	})
	return lift
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
		{errors.Join(errors.New("SECRET"), fmt.Errorf("a: %w", cause), cluster.ErrLost, fmt.Errorf("b: %w", apierrors.NewForbidden(corev1.Resource("secrets"), "x", nil))), "a: Invalid\nb: Forbidden"},
	} {
		if got := problemOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
