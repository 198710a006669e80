package controller

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/installation"
)

// TestANewPasswordOfTheUsersIsFollowed: back in Unmanaged the Secret belongs to
// users again, and what they write there is followed, not repaired.
func TestANewPasswordOfTheUsersIsFollowed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(nil)
	a := c.upstreamA()
	c.reaches(switchover.Unmanaged, a)
	c.switchTo(a)
	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, a)
	rotated := a
	rotated.Credentials = upstream.Credentials{Username: "license-token-2", Password: "new-key-of-a"}
	c.a.AddUser(rotated.Credentials.Username, rotated.Credentials.Password)
	secret := c.secret(v1alpha1.SecretRegistry)
	secret.Data[corev1.DockerConfigJsonKey] = installation.DockerConfig(a.Host, rotated.Credentials)
	if err := c.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	c.reaches(switchover.Unmanaged, rotated)
	if u, problem := pullsecret.Installation(c.secret(v1alpha1.SecretRegistry)); u != rotated {
		t.Errorf("deckhouse-registry is read back as %s with other credentials (%s)", u, problem)
	}
	c.wantImages(layout.NameOf(a))
}

// TestANamespaceThatRefusesItsPullSecretHoldsBackNobodyElse: only the workloads in
// it wait, and the condition says why.
func TestANamespaceThatRefusesItsPullSecretHoldsBackNobodyElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	old := layout.NameOf(c.upstreamA())
	c.Namespace("d8-locked", map[string]string{"heritage": "deckhouse"})
	c.Make(deployment("d8-locked", "grafana", old.Reference("@"+c.digest("alpha"))))
	lift := c.forbidSecrets("d8-locked")
	c.begin()
	c.ask(settingsOf(c.upstreamB()))
	v := c.until("it is told", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionSwitch).Message, "write pull secret d8-locked/deckhouse-registry")
	})
	t.Log(v.condition(v1alpha1.ConditionSwitch).Message)
	c.eventually("the others are re-pointed", func() bool {
		return strings.HasPrefix(c.image("d8-monitoring", "prometheus"), layout.Fixed().String())
	})
	if got := c.image("d8-locked", "grafana"); !strings.HasPrefix(got, old.String()) {
		t.Errorf("without a pull secret grafana was re-pointed to %s", got)
	}
	lift()
	c.reaches(switchover.Direct, c.upstreamB())
	if got := c.image("d8-locked", "grafana"); !strings.HasPrefix(got, layout.Fixed().String()) {
		t.Errorf("grafana was left on %s", got)
	}
}

// forbidSecrets installs a policy against Secrets in a namespace.
func (c *testbed) forbidSecrets(namespace string) (lift func()) {
	c.t.Helper()
	return c.forbid("no-secrets", "secrets", "", "object.metadata.namespace != '"+namespace+"'", func() error {
		probe := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "probe"}}
		return c.Create(c.t.Context(), probe, client.DryRunAll)
	})
}

// forbid installs a policy against creations and updates of a resource, unless a CEL
// expression is true, and waits until it refuses the probe.
func (c *testbed) forbid(name, resource, group, unless string, probe func() error) (lift func()) {
	c.t.Helper()
	ctx := c.t.Context()
	meta := metav1.ObjectMeta{Name: "test-" + name}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
				Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{resource}},
			},
		}}},
		Validations: []admissionv1.Validation{{Expression: unless, Message: "not here"}},
	}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: meta.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
	}}
	for _, o := range []client.Object{policy, binding} {
		c.Make(o)
	}
	lift = func() {
		for _, o := range []client.Object{binding, policy} {
			if err := c.Delete(ctx, o); err != nil && !apierrors.IsNotFound(err) {
				c.t.Error(err)
			}
		}
	}
	c.eventually("the policy is in force", func() bool { return apierrors.IsInvalid(probe()) })
	return lift
}
