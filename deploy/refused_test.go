package deploy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// object is an object of YAML fields.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	fields, ok := parseYAML(t, text).(map[string]any)
	if !ok {
		t.Fatal(text)
	}
	return &unstructured.Unstructured{Object: fields}
}

// An attempt is what somebody with a stolen token would do.
type attempt struct {
	name string
	do   func(t *testing.T, c client.Client) error
}

func get(text string) attempt {
	return attempt{"get " + text, func(t *testing.T, c client.Client) error {
		o := object(t, text)
		return c.Get(t.Context(), client.ObjectKeyFromObject(o), o)
	}}
}

func list(text string, opts ...client.ListOption) attempt {
	return attempt{"list " + text, func(t *testing.T, c client.Client) error {
		l := &unstructured.UnstructuredList{Object: object(t, text).Object}
		return c.List(t.Context(), l, opts...)
	}}
}

func patchOf(text, body string) attempt {
	return attempt{"patch " + text, func(t *testing.T, c client.Client) error {
		return c.Patch(t.Context(), object(t, text), mergePatch(t, body), client.DryRunAll)
	}}
}

func statusOf(text, body string) attempt {
	return attempt{"patch status of " + text, func(t *testing.T, c client.Client) error {
		return c.Status().Patch(t.Context(), object(t, text), mergePatch(t, body), &client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: []string{"All"}}})
	}}
}

func creation(text string) attempt {
	return attempt{"create " + text, func(t *testing.T, c client.Client) error {
		return c.Create(t.Context(), object(t, text), client.DryRunAll)
	}}
}

func deletion(text string) attempt {
	return attempt{"delete " + text, func(t *testing.T, c client.Client) error {
		return c.Delete(t.Context(), object(t, text), client.DryRunAll)
	}}
}

// What the attempts are about. All of it exists, so that a refusal is none for
// want of an object.
const (
	nodeA, nodeB   = "{apiVersion: v1, kind: Node, metadata: {name: node-a}}", "{apiVersion: v1, kind: Node, metadata: {name: node-b}}"
	reportA        = "{apiVersion: registry.deckhouse.io/v1alpha1, kind: RegistryNode, metadata: {name: node-a}}"
	reportB        = "{apiVersion: registry.deckhouse.io/v1alpha1, kind: RegistryNode, metadata: {name: node-b}}"
	state          = "{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: registry-state}}"
	layoutSecret   = "{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: registry-bashible-config}}"
	registrySecret = "{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: deckhouse-registry}}"
	proxySecret    = "{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: registry-incluster-proxy-config}}"
	foreign        = "{apiVersion: v1, kind: Secret, metadata: {namespace: default, name: foreign}}"
	foreignHere    = "{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: foreign}}"
	settings       = "{apiVersion: deckhouse.io/v1alpha1, kind: ModuleConfig, metadata: {name: refused}, spec: {version: 1}}"
	fresh          = "{apiVersion: deckhouse.io/v1alpha1, kind: ModuleConfig, metadata: {name: fresh}, spec: {version: 1}}"
	script         = "{apiVersion: deckhouse.io/v1alpha1, kind: NodeGroupConfiguration, metadata: {name: refused.sh}, spec: {content: 'true', nodeGroups: ['*'], bundles: ['*']}}"
	secrets, nodes = "{apiVersion: v1, kind: SecretList}", "{apiVersion: v1, kind: NodeList}"
	pods           = "{apiVersion: v1, kind: PodList}"
	accounts       = "{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: d8-system, name: registry-controller}}"
	podOfAgentB    = "{apiVersion: v1, kind: Pod, metadata: {namespace: d8-system, name: registry-agent-node-b}}"
	policy         = "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicy, metadata: {name: registry-controller-nodes}}"
	binding        = "{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingAdmissionPolicyBinding, metadata: {name: registry-controller-nodes}}"
	label          = "{metadata: {labels: {a: b}}}"
)

func attempts() map[string][]attempt {
	own := client.InNamespace(v1alpha1.Namespace)
	everybody := []attempt{
		get(foreign), get(foreignHere), list(secrets), patchOf(foreign, label), deletion(foreign), deletion(state), deletion(layoutSecret), deletion(registrySecret),
		patchOf(settings, "{spec: {version: 2}}"), patchOf(script, "{spec: {content: 'false'}}"), deletion(script),
		deletion(nodeB), deletion(reportB), statusOf(nodeB, "{status: {phase: Pending}}"), deletion(policy), patchOf(policy, label), deletion(binding), patchOf(accounts, label),
		creation("{apiVersion: v1, kind: Secret, metadata: {namespace: default, name: fresh}}"),
		creation("{apiVersion: v1, kind: Pod, metadata: {namespace: d8-system, name: fresh}, spec: {containers: [{name: a, image: a}]}}"),
		creation("{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: registry-t, annotations: {kubernetes.io/service-account.name: registry-controller}}, type: kubernetes.io/service-account-token}"),
		creation("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: fresh}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}"),
	}
	agent := []attempt{
		statusOf(reportB, "{status: {generation: 7}}"), patchOf(reportA, "{spec: {approvedRestart: mine}}"), deletion(reportA), creation("{apiVersion: registry.deckhouse.io/v1alpha1, kind: RegistryNode, metadata: {name: fresh}}"),
		get(state), get(registrySecret), get(proxySecret), list(secrets, own), list(secrets, own, client.MatchingFields{"metadata.name": "registry-state"}),
		list(secrets, client.MatchingFields{"metadata.name": "registry-bashible-config"}), patchOf(layoutSecret, label),
		get(nodeA), list(nodes), patchOf(nodeA, label), list(pods), list(pods, own), deletion(podOfAgentB),
		creation("{apiVersion: v1, kind: Event, metadata: {namespace: default, name: e}, involvedObject: {kind: Node, name: node-b}}"),
		creation("{apiVersion: v1, kind: Event, metadata: {namespace: d8-system, name: e}, involvedObject: {kind: Node, name: node-a}}"),
	}
	proxy := []attempt{
		get(state), get(registrySecret), get(layoutSecret), list(secrets, own), patchOf(proxySecret, label), get(nodeA), list(pods, own), get(podOfAgentB),
		patchOf(podOfAgentB, "{metadata: {annotations: {registry.deckhouse.io/generation: '7'}}}"), statusOf(reportA, "{status: {generation: 7}}"), get(reportA), get(settings), deletion(podOfAgentB),
	}
	controller := []attempt{
		patchOf(nodeA, "{spec: {taints: [{key: other, effect: NoSchedule}]}}"), patchOf(nodeA, label), patchOf(nodeA, "{spec: {unschedulable: true}}"),
		statusOf(reportA, "{status: {generation: 7}}"), list(secrets, client.MatchingFields{"metadata.name": "foreign"}), get(accounts), patchOf(podOfAgentB, label),
		creation("{apiVersion: v1, kind: Secret, metadata: {namespace: default, name: deckhouse-registry}}"),
		creation(fresh), creation("{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: fresh}}"),
		creation("{apiVersion: apps/v1, kind: DaemonSet, metadata: {namespace: default, name: registry-agent}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}"),
	}
	uninstall := []attempt{
		get(foreign), get(foreignHere), list(secrets), list(secrets, own), deletion(foreign), deletion(foreignHere), patchOf(state, label), patchOf(registrySecret, label),
		patchOf(nodeA, label), patchOf(nodeA, "{spec: {taints: [{key: other, effect: NoSchedule}]}}"), patchOf(nodeA, "{spec: {unschedulable: true}}"), deletion(nodeA),
		statusOf(reportA, "{status: {generation: 7}}"), patchOf(settings, "{spec: {version: 2}}"), deletion(settings), deletion(script), deletion(podOfAgentB), deletion(policy), deletion(binding),
		creation("{apiVersion: v1, kind: Secret, metadata: {namespace: d8-system, name: registry-state}}"), creation(fresh),
		deletion("{apiVersion: v1, kind: Namespace, metadata: {name: d8-system}}"),
	}
	return map[string][]attempt{
		"registry-uninstall": uninstall,
		"registry-agent":     append(agent, everybody...), "registry-proxy": append(proxy, everybody...), "registry-controller": append(controller, everybody...),
	}
}

// TestRefused tries, with real tokens, what must be refused: by roles or by
// policies, and not for want of the object.
func TestRefused(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for _, text := range []string{reportA, reportB, state, layoutSecret, registrySecret, proxySecret, foreign, foreignHere, settings, script} {
		present(t, api, object(t, text))
	}
	api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "node-b"})
	for account, all := range attempts() {
		t.Run(account, func(t *testing.T) {
			c := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: account, Node: "node-a"}))
			for _, a := range all {
				err := a.do(t, c)
				if status := apierrors.ReasonForError(err); status != metav1.StatusReasonForbidden && status != metav1.StatusReasonInvalid {
					t.Errorf("%s: %v", a.name, err)
				}
			}
		})
	}
	t.Run("an administrator may", func(t *testing.T) {
		for _, all := range attempts() {
			for _, a := range all {
				if err := a.do(t, api.Client()); apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
					t.Errorf("%s: %v", a.name, err)
				}
			}
		}
	})
}

// TestControllerAndPullSecrets: a pull secret of somebody's is his but for the
// entries of registries.
func TestControllerAndPullSecrets(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	controller := asController(t, api)
	const (
		entries = "Of an image pull secret outside d8-system the registry controller may write .dockerconfigjson and its own annotations only."
		outside = "Outside d8-system the registry controller may write image pull secret deckhouse-registry and no other."
	)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "deckhouse-registry", Labels: map[string]string{"owner": "a"}, Annotations: map[string]string{"a": "b"}},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data:       map[string][]byte{corev1.DockerConfigJsonKey: []byte("{}"), "note": []byte("x")},
	}
	present(t, api, secret)
	for _, tt := range []struct{ name, patch, want string }{
		{"entries", "{data: {.dockerconfigjson: e30K}, metadata: {annotations: {registry.deckhouse.io/hosts: a}}}", ""},
		{"another key", "{data: {note: e30K}}", entries},
		{"new key", "{data: {new: e30K}}", entries},
		{"no key", "{data: {note: null}}", entries},
		{"label", "{metadata: {labels: {owner: b}}}", entries},
		{"annotation", "{metadata: {annotations: {a: c}}}", entries},
		{"no annotation", "{metadata: {annotations: {a: null}}}", entries},
		{"finalizer", "{metadata: {finalizers: [a.b/c]}}", entries},
		{"for ever", "{immutable: true}", entries},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, controller.Patch(t.Context(), secret.DeepCopy(), mergePatch(t, tt.patch), client.DryRunAll), tt.want)
		})
	}
	t.Run("of another type", func(t *testing.T) {
		opaque := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: api.Namespace(t), Name: "deckhouse-registry"}}
		present(t, api, opaque)
		check(t, controller.Patch(t.Context(), opaque, mergePatch(t, "{metadata: {annotations: {registry.deckhouse.io/hosts: a}}}"), client.DryRunAll), outside)
	})
}
