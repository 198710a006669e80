package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// fieldOwner is the field manager of everything that is installed.
const fieldOwner = "apitest"

// installTimeout covers CRDs and policies taking effect.
const installTimeout = time.Minute

// install applies deploy/crds, deploy/rbac and deploy/admission, in this
// order, and returns when all of it is in force.
func (a *API) install(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	root, err := Root()
	if err != nil {
		return err
	}
	for _, dir := range []string{"crds", "rbac", "admission"} {
		objects, err := ReadManifests(filepath.Join(root, "deploy", dir))
		if err != nil {
			return err
		}
		for _, o := range objects {
			if err := a.Apply(ctx, o); err != nil {
				return err
			}
		}
		if dir == "crds" {
			if err := a.waitEstablished(ctx); err != nil {
				return err
			}
		}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: registryv1alpha1.Namespace}}
	if err := client.IgnoreAlreadyExists(a.admin.Create(ctx, ns)); err != nil {
		return fmt.Errorf("make namespace %s: %w", ns.Name, err)
	}
	return a.WaitForPolicies(ctx)
}

// ReadManifests reads the objects of all YAML files of a directory, by name.
func ReadManifests(dir string) ([]*unstructured.Unstructured, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(paths)
	var all []*unstructured.Unstructured
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		objects, err := ParseManifests(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		all = append(all, objects...)
	}
	return all, nil
}

// ParseManifests reads the objects of a YAML text, empty documents left out.
func ParseManifests(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict(doc, &o.Object); err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			objects = append(objects, o)
		}
	}
}

// Apply applies an object as `kubectl apply --server-side --force-conflicts`
// would, as a cluster administrator.
func (a *API) Apply(ctx context.Context, o *unstructured.Unstructured) error {
	err := a.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(o.DeepCopy()),
		client.FieldOwner(fieldOwner), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

func (a *API) waitEstablished(ctx context.Context) error {
	err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var crds apiextensionsv1.CustomResourceDefinitionList
		if err := a.admin.List(ctx, &crds); err != nil {
			return false, err
		}
		return !slices.ContainsFunc(crds.Items, func(crd apiextensionsv1.CustomResourceDefinition) bool {
			return !slices.ContainsFunc(crd.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
				return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
			})
		}), nil
	})
	if err != nil {
		return fmt.Errorf("wait for CRDs: %w", err)
	}
	return nil
}

// parametersAreRead reports whether policies have the ModuleConfigs that they
// compare others with.
func (a *API) parametersAreRead(ctx context.Context) bool {
	probe := &unstructured.Unstructured{}
	probe.SetGroupVersionKind(deckhousev1alpha1.GroupVersion().WithKind("ModuleConfig"))
	probe.SetName("apitest")
	err := a.admin.Create(ctx, probe, client.DryRunAll)
	return err == nil || !strings.Contains(err.Error(), "not yet synced")
}

// WaitForPolicies returns when the admission policies that exist now are in
// force. The API server reads policies in the order in which they were
// written, so it writes one more, which refuses one ConfigMap, and tries. What
// policies compare with has to be read, too: until then all is refused.
func (a *API) WaitForPolicies(ctx context.Context) error {
	// A name of its own: an earlier one, deleted by now, may still be in force.
	name := "apitest-" + rand.String(10)
	probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}}
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{
			RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"},
					Scope: ptr.To(admissionv1.NamespacedScope)},
			},
		}}},
		Validations: []admissionv1.Validation{{
			Expression: "object.metadata.?name.orValue('') != '" + name + "'", Message: "policies are in force"}},
	}}
	if err := a.admin.Create(ctx, policy); err != nil {
		return fmt.Errorf("make the last policy: %w", err)
	}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}}
	if err := a.admin.Create(ctx, binding); err != nil {
		return fmt.Errorf("bind the last policy: %w", err)
	}
	waitErr := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		err := a.admin.Create(ctx, probe.DeepCopy(), client.DryRunAll)
		if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
			return a.parametersAreRead(ctx), nil
		}
		return false, err
	})
	if waitErr != nil {
		waitErr = fmt.Errorf("wait for policies: %w", waitErr)
	}
	return errors.Join(waitErr, a.admin.Delete(ctx, binding), a.admin.Delete(ctx, policy))
}
