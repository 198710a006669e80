package deploy

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// mergePatch is a merge patch as YAML.
func mergePatch(t *testing.T, body string) client.Patch {
	t.Helper()
	return client.RawPatch(types.MergePatchType, []byte(toJSON(t, parseYAML(t, body))))
}

// present creates an object for real, unless it is there.
func present(t *testing.T, api *apiserver.API, o client.Object) {
	t.Helper()
	if err := client.IgnoreAlreadyExists(api.Client().Create(t.Context(), o)); err != nil {
		t.Fatal(err)
	}
}

func TestAgentReportsOnItsOwnNodeOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for _, name := range []string{"own", "other"} {
		present(t, api, &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	agent := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "own"}))
	nowhere := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent"}))
	status := mergePatch(t, "{status: {generation: 7}}")
	for _, tt := range []struct {
		name, node string
		as         client.Client
		want       string
	}{
		{"own", "own", agent, ""},
		{"other", "other", agent, "The agent of node 'own' may not write the status of RegistryNode 'other'."},
		{"token without a node", "own", nowhere, "The agent of node '' may not write the status of RegistryNode 'own'."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: tt.node}}
			check(t, tt.as.Status().Patch(t.Context(), o, status), tt.want)
		})
	}
	t.Run("metadata and spec do not follow", func(t *testing.T) {
		o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
		body := "{metadata: {labels: {a: b}, finalizers: [a.b/c]}, spec: {generation: 9}, status: {generation: 8}}"
		if err := agent.Status().Patch(t.Context(), o, mergePatch(t, body)); err != nil {
			t.Fatal(err)
		}
		if o.Status.Generation != 8 || o.Spec.Generation != 0 || len(o.Labels) != 0 || len(o.Finalizers) != 0 {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("all that a node has to say", func(t *testing.T) {
		o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
		body := `{spec: {approvedRestart: of-its-own}, status: {
			restart: {id: of-its-own, phase: Waiting, message: config_path is to be set},
			scripts: [{name: a, phase: Failed, message: exit status 1}], warnings: [NO_PROXY lacks the service address],
			containerd: {configFile: /etc/containerd/config.toml, sandboxImage: "pause:3"}}}`
		if err := agent.Status().Patch(t.Context(), o, mergePatch(t, body)); err != nil {
			t.Fatal(err)
		}
		if o.Spec.ApprovedRestart != "" || o.Status.Restart == nil || len(o.Status.Scripts) != 1 || len(o.Status.Warnings) != 1 {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("its own approval", func(t *testing.T) {
		o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
		if err := agent.Patch(t.Context(), o, mergePatch(t, "{spec: {approvedRestart: of-its-own}}")); !apierrors.IsForbidden(err) {
			t.Errorf("error %v, want forbidden", err)
		}
	})
	t.Run("an approval by the controller", func(t *testing.T) {
		controller := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "own"}))
		o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
		if err := controller.Patch(t.Context(), o, mergePatch(t, "{spec: {approvedRestart: of-its-own}}")); err != nil {
			t.Error(err)
		}
	})
	t.Run("more than anybody reads", func(t *testing.T) {
		for _, field := range []string{"{message: %s}", "{restart: {id: a, phase: Failed, message: %s}}", "{restart: {id: %s, phase: Failed}}", "{warnings: [%s]}"} {
			o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
			body := "{status: " + fmt.Sprintf(field, strings.Repeat("x", 10000)) + "}"
			if err := agent.Status().Patch(t.Context(), o, mergePatch(t, body)); !apierrors.IsInvalid(err) {
				t.Errorf("%s: error %v, want invalid", field, err)
			}
		}
	})
	t.Run("spec", func(t *testing.T) {
		o := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "own"}}
		if err := agent.Patch(t.Context(), o, mergePatch(t, "{spec: {generation: 9}}")); !apierrors.IsForbidden(err) {
			t.Errorf("error %v, want forbidden", err)
		}
	})
}

// A Lease says that an agent is alive. In d8-system there are those of others too.
func TestAgentRenewsTheLeaseOfItsNodeOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	agent := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "leased"}))
	nowhere := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent"}))
	lease := func(name, meta, spec string) *unstructured.Unstructured {
		return object(t, "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {namespace: d8-system, name: "+name+meta+"}, spec: {leaseDurationSeconds: 180"+spec+"}}")
	}
	const only = "An agent may say in its Lease that it is alive and nothing else."
	owner := func(kind, name string) string {
		return ", labels: {app: registry-agent}, ownerReferences: [{apiVersion: registry.deckhouse.io/v1alpha1, kind: " + kind + ", name: " + name + ", uid: u}]"
	}
	for _, tt := range []struct {
		name  string
		c     client.Client
		lease *unstructured.Unstructured
		want  string
	}{
		{"its own", agent, lease("registry-agent-leased", owner("RegistryNode", "leased"), ", holderIdentity: leased"), ""},
		{"renewed", agent, lease("registry-agent-leased", owner("RegistryNode", "leased"), ", renewTime: '2026-11-03T12:00:00.000000Z'"), ""},
		{"another node's", agent, lease("registry-agent-other", "", ""), "The agent of node 'leased' may not write Lease 'registry-agent-other'."},
		{"the controller's", agent, lease("registry-controller", "", ""), "The agent of node 'leased' may not write Lease 'registry-controller'."},
		{"token without a node", nowhere, lease("registry-agent-leased", "", ""), "The agent of node '' may not write Lease 'registry-agent-leased'."},
		{"annotations", agent, lease("registry-agent-leased", ", annotations: {a: b}", ""), only},
		{"finalizers", agent, lease("registry-agent-leased", ", finalizers: [a.io/b]", ""), only},
		{"a label", agent, lease("registry-agent-leased", ", labels: {heritage: deckhouse}", ""), only},
		{"another owner", agent, lease("registry-agent-leased", owner("RegistryNode", "other"), ""), only},
		{"an owner of another kind", agent, lease("registry-agent-leased", owner("Node", "leased"), ""), only},
		{"a novel", agent, lease("registry-agent-leased", "", ", holderIdentity: "+strings.Repeat("x", 300)), only},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, tt.c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(tt.lease), client.FieldOwner("registry-agent"), client.ForceOwnership), tt.want)
		})
	}
}

// TestAgentPolicyStandsAlone: rights that somebody adds by another role do not
// open what the policy closes.
// Not in parallel: other tests are about what the agent may not do.
func TestAgentPolicyStandsAlone(t *testing.T) {
	api := server.Start(t)
	agent := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "alone"}))
	bindClusterAdmin(t, api, "registry-agent", agent)
	present(t, api, &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "alone"}})
	const want = "An agent may write the status of its own RegistryNode and nothing else."
	o := func() *v1alpha1.RegistryNode {
		return &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "alone"}}
	}
	check(t, agent.Patch(t.Context(), o(), mergePatch(t, "{spec: {generation: 9}}")), want)
	check(t, agent.Delete(t.Context(), o()), want)
	check(t, agent.Create(t.Context(), &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "new"}}), want)
	lease := object(t, "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {namespace: d8-system, name: registry-agent-alone}}")
	store(t, api, lease)
	check(t, agent.Delete(t.Context(), lease), "The agent of node 'alone' may not write Lease 'registry-agent-alone'.")
}

func TestProxyAnnotatesItsOwnPodOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	proxy := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-proxy", Node: "n1", Pod: "proxy-own"}))
	api.As(t, apiserver.Process{ServiceAccount: "registry-proxy", Node: "n1", Pod: "proxy-other"})
	own := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "proxy-own"}}
	if err := api.Client().Patch(t.Context(), own, mergePatch(t, "{metadata: {annotations: {a: b}, labels: {app: x}}}")); err != nil {
		t.Fatal(err)
	}
	const only = "The in-cluster proxy may write its own annotations of its Pod and nothing else."
	for _, tt := range []struct{ name, pod, patch, want string }{
		{"generation", "proxy-own", "{metadata: {annotations: {registry.deckhouse.io/generation: '7', registry.deckhouse.io/version: abc}}}", ""},
		{"last use", "proxy-own", "{metadata: {annotations: {registry.deckhouse.io/last-use: '2026-01-01T00:00:00Z', registry.deckhouse.io/last-client: 10.0.0.1}}}", ""},
		{"remove its own", "proxy-own", "{metadata: {annotations: {registry.deckhouse.io/generation: null}}}", ""},
		{"another pod", "proxy-other", "{metadata: {annotations: {registry.deckhouse.io/generation: '7'}}}",
			"The in-cluster proxy in Pod 'proxy-own' may not write Pod 'proxy-other'."},
		{"another annotation", "proxy-own", "{metadata: {annotations: {c: d}}}", only},
		{"change another annotation", "proxy-own", "{metadata: {annotations: {a: c}}}", only},
		{"remove another annotation", "proxy-own", "{metadata: {annotations: {a: null}}}", only},
		{"label", "proxy-own", "{metadata: {labels: {app: other}}}", only},
		{"remove labels", "proxy-own", "{metadata: {labels: null}}", only},
		{"finalizer", "proxy-own", "{metadata: {finalizers: [a.b/c]}}", only},
		{"owner", "proxy-own", "{metadata: {ownerReferences: [{apiVersion: v1, kind: Node, name: n1, uid: x}]}}", only},
		{"image", "proxy-own", "{spec: {activeDeadlineSeconds: 1}}", only},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: tt.pod}}
			check(t, proxy.Patch(t.Context(), pod, mergePatch(t, tt.patch)), tt.want)
		})
	}
}

func TestControllerMarksNodes(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "n1"}))
	const (
		label      = "The registry controller may write only label node.deckhouse.io/containerd-config-registry of a Node."
		annotation = "The registry controller may write only annotation registry.deckhouse.io/version of a Node."
		taint      = "The registry controller may write only taint registry.deckhouse.io/not-converged:NoSchedule of a Node."
		only       = "The registry controller may write only its label, annotation and taint of a Node."
		mine       = "{key: mine, effect: NoExecute}"
		ours       = "{key: registry.deckhouse.io/not-converged, effect: NoSchedule}"
	)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "marked", Labels: map[string]string{"role": "worker"}, Annotations: map[string]string{"a": "b"}},
	}
	present(t, api, node)
	// A new Node gets a taint from the API server, so it is made as it should be in two steps.
	if err := api.Client().Patch(t.Context(), node, mergePatch(t, "{spec: {taints: ["+mine+"]}}")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, patch, want string }{
		{"label", "{metadata: {labels: {node.deckhouse.io/containerd-config-registry: custom}}}", ""},
		{"annotation", "{metadata: {annotations: {registry.deckhouse.io/version: abc}}}", ""},
		{"taint", "{spec: {taints: [" + mine + ", " + ours + "]}}", ""},
		{"taint that says how it came", "{spec: {taints: [" + mine + ", {key: registry.deckhouse.io/not-converged, value: joining, effect: NoSchedule}]}}", ""},
		{"no taint", "{spec: {taints: [" + mine + "]}}", ""},
		{"remove label and annotation", "{metadata: {labels: {node.deckhouse.io/containerd-config-registry: null}, annotations: {registry.deckhouse.io/version: null}}}", ""},
		{"another label", "{metadata: {labels: {role: master}}}", label},
		{"remove another label", "{metadata: {labels: {role: null}}}", label},
		{"new label", "{metadata: {labels: {new: label}}}", label},
		{"another annotation", "{metadata: {annotations: {a: c}}}", annotation},
		{"remove another annotation", "{metadata: {annotations: {a: null}}}", annotation},
		{"operator's annotation", "{metadata: {annotations: {registry.deckhouse.io/exclude: 'true'}}}", annotation},
		{"remove another taint", "{spec: {taints: [" + ours + "]}}", taint},
		{"another taint", "{spec: {taints: [" + mine + ", {key: x, effect: NoSchedule}]}}", taint},
		{"taint that evicts", "{spec: {taints: [" + mine + ", {key: registry.deckhouse.io/not-converged, effect: NoExecute}]}}", taint},
		{"cordon", "{spec: {unschedulable: true}}", only},
		{"provider", "{spec: {providerID: x}}", only},
		{"pod CIDR", "{spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24]}}", only},
		{"finalizer", "{metadata: {finalizers: [a.b/c]}}", only},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "marked"}}
			check(t, controller.Patch(t.Context(), o, mergePatch(t, tt.patch)), tt.want)
		})
	}
}

func TestControllerCreatesItsSecretsOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	ns := api.Namespace(t)
	controller := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "n1"}))
	const (
		outside = "Outside d8-system the registry controller may write image pull secret deckhouse-registry and no other."
		inside  = "In d8-system the registry controller may write Secrets registry-* and deckhouse-registry and no other."
		token   = "The registry controller may not create tokens of ServiceAccounts."
	)
	for _, tt := range []struct {
		name, namespace, secret string
		kind                    corev1.SecretType
		want                    string
	}{
		{"pull secret", ns, "deckhouse-registry", corev1.SecretTypeDockerConfigJson, ""},
		{"pull secret of another name", ns, "pull", corev1.SecretTypeDockerConfigJson, outside},
		{"another type", ns, "deckhouse-registry", corev1.SecretTypeOpaque, outside},
		{"PKI", v1alpha1.Namespace, "registry-pki", "registry/pki", ""},
		{"somebody's", v1alpha1.Namespace, "somebody", corev1.SecretTypeOpaque, inside},
		{"token", v1alpha1.Namespace, "registry-token", corev1.SecretTypeServiceAccountToken, token},
		{"token elsewhere", ns, "deckhouse-registry", corev1.SecretTypeServiceAccountToken, outside},
	} {
		t.Run(tt.name, func(t *testing.T) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tt.namespace, Name: tt.secret}, Type: tt.kind, Data: map[string][]byte{}}
			switch tt.kind {
			case corev1.SecretTypeDockerConfigJson:
				secret.Data[corev1.DockerConfigJsonKey] = []byte("{}")
			case corev1.SecretTypeServiceAccountToken:
				secret.Annotations = map[string]string{corev1.ServiceAccountNameKey: "registry-controller"}
			default:
			}
			check(t, controller.Create(t.Context(), secret, client.DryRunAll), tt.want)
		})
	}
}

// TestOthersAreNotStopped: policies about our processes say nothing about
// anybody else.
func TestOthersAreNotStopped(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	present(t, api, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "free"}})
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "free"}}
	if err := api.Client().Patch(t.Context(), node, mergePatch(t, "{spec: {unschedulable: true}}")); err != nil {
		t.Error(err)
	}
	rn := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "free"}}
	present(t, api, rn)
	if err := api.Client().Status().Patch(t.Context(), rn, mergePatch(t, "{status: {generation: 1}}")); err != nil {
		t.Error(err)
	}
}
