package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

// TestEachSettingsRuleCounts installs the policy once per rule, each time
// without that rule and for a ModuleConfig of another name, and demands that
// the table notices.
// Not in parallel: it slows down every write of a ModuleConfig.
func TestEachSettingsRuleCounts(t *testing.T) {
	api := server.Start(t)
	var whole admissionv1.ValidatingAdmissionPolicy
	if err := api.Client().Get(t.Context(), client.ObjectKey{Name: "registry-settings"}, &whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole.Spec.Validations {
		installWithout(t, api, &whole, i)
	}
	if err := api.WaitForPolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
	table := rows(t)
	for i, rule := range whole.Spec.Validations {
		t.Run(fmt.Sprintf("rule %d", i), func(t *testing.T) {
			for _, r := range nearest(table, rule) {
				if got := outcome(t, api, withoutRule(i), parseYAML(t, r.registry)); got != r.want {
					return
				}
			}
			t.Errorf("no row notices that this rule is missing: %s", rule.Expression)
		})
	}
}

// nearest puts the rows first that are likely to notice, so that a run is short.
func nearest(table []row, rule admissionv1.Validation) []row {
	distance := func(r row) int {
		_, words, _ := strings.Cut(r.want, ": ")
		switch {
		case r.want != "" && r.want == rule.Message, words != "" && strings.Contains(rule.MessageExpression, words):
			return 0
		case len(r.registry) > 1<<16:
			return 3
		case r.want == "":
			return 2
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(table), func(a, b row) int { return distance(a) - distance(b) })
}

func withoutRule(i int) string { return fmt.Sprintf("without-rule-%d", i) }

// installWithout installs a copy of a policy for ModuleConfig without-rule-i.
func installWithout(t *testing.T, api *apiserver.API, whole *admissionv1.ValidatingAdmissionPolicy, i int) {
	t.Helper()
	broken := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: withoutRule(i)}, Spec: *whole.Spec.DeepCopy()}
	broken.Spec.Validations = append(broken.Spec.Validations[:i:i], broken.Spec.Validations[i+1:]...)
	for k, condition := range broken.Spec.MatchConditions {
		broken.Spec.MatchConditions[k].Expression = strings.ReplaceAll(condition.Expression, "'deckhouse'", "'"+withoutRule(i)+"'")
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: withoutRule(i)},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: withoutRule(i), ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}}
	for _, o := range []client.Object{broken, binding} {
		if err := api.Client().Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := api.Client().Delete(context.WithoutCancel(t.Context()), o); err != nil {
				t.Error(err)
			}
		})
	}
}

// outcome is the message that a registry section is refused with, empty if it is
// accepted.
func outcome(t *testing.T, api *apiserver.API, name string, section any) string {
	t.Helper()
	o := moduleConfig(t, name, "{version: 1}")
	if err := unstructured.SetNestedField(o.Object, map[string]any{"registry": section}, "spec", "settings"); err != nil {
		t.Fatal(err)
	}
	err := create().do(t, api.Client(), o)
	if err == nil {
		return ""
	}
	_, message, _ := strings.Cut(err.Error(), deniedBy)
	return message
}

// TestOldMistakesStopNobody: an object from before the policy is wrong. What
// does not touch its registry section is none of the policy's business.
// Not in parallel: it takes the policy away for a moment.
func TestOldMistakesStopNobody(t *testing.T) {
	api := server.Start(t)
	unbound(t, api, "registry-settings", func() {
		store(t, api, moduleConfig(t, "deckhouse", "{version: 1, settings: {registry: {mode: Nonsense, x: y}}}"))
	})
	for _, tt := range []struct{ name, patch, want string }{
		{"label", "{metadata: {labels: {a: b}}}", ""},
		{"finalizer", "{metadata: {finalizers: [a.b/c]}}", ""},
		{"enabled", "{spec: {enabled: true}}", ""},
		{"another section", "{spec: {settings: {bundle: Minimal}}}", ""},
		{"another mistake", "{spec: {settings: {registry: {mode: Other}}}}", "Unknown registry mode: Other" + wantModes},
		{"half a correction", "{spec: {settings: {registry: {mode: Unmanaged}}}}", "registry: unknown field 'x'; expected 'mode', 'direct' and 'proxy'."},
		{"correction", "{spec: {settings: {registry: {mode: Unmanaged, x: null}}}}", ""},
		{"removal", "{spec: {settings: {registry: null}}}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, patch(tt.patch).do(t, api.Client(), moduleConfig(t, "deckhouse", "{}")), tt.want)
		})
	}
	check(t, remove().do(t, api.Client(), moduleConfig(t, "deckhouse", "{}")), "")
}

// unbound does something while a policy is not in force.
func unbound(t *testing.T, api *apiserver.API, policy string, do func()) {
	t.Helper()
	binding := &unstructured.Unstructured{}
	binding.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"))
	binding.SetName(policy)
	if err := api.Client().Get(t.Context(), client.ObjectKeyFromObject(binding), binding); err != nil {
		t.Fatal(err)
	}
	if err := api.Client().Delete(t.Context(), binding.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	if err := api.WaitForPolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
	do()
	binding.SetResourceVersion("")
	binding.SetUID("")
	if err := api.Client().Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	if err := api.WaitForPolicies(t.Context()); err != nil {
		t.Fatal(err)
	}
}
