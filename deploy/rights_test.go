package deploy

import (
	"context"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// processes are the ServiceAccounts of the module.
func processes() []string { return []string{"registry-controller", "registry-agent", "registry-proxy"} }

// can asks the API server, with a process's own token, about "verb
// group/resource[/subresource] [namespace/]name"; "-" stands for the core group
// and for no name.
func can(ctx context.Context, t *testing.T, c client.Client, question string) bool {
	t.Helper()
	fields := strings.Fields(question)
	if len(fields) != 3 {
		t.Fatalf("question %q", question)
	}
	parts := append(strings.SplitN(fields[1], "/", 3), "", "")
	attributes := &authorizationv1.ResourceAttributes{Verb: fields[0], Group: strings.Trim(parts[0], "-"), Resource: parts[1], Subresource: parts[2]}
	attributes.Name = strings.Trim(fields[2], "-")
	if namespace, name, ok := strings.Cut(fields[2], "/"); ok {
		attributes.Namespace, attributes.Name = namespace, name
	}
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes}}
	if err := c.Create(ctx, review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

func TestNobodyIsClusterAdmin(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for _, name := range processes() {
		t.Run(name, func(t *testing.T) {
			c := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: name, Node: "rights"}))
			for _, question := range []string{
				"* */* -", "* */* d8-system/", "get -/secrets kube-system/any", "list -/secrets -", "list -/secrets kube-system/",
				"get -/secrets d8-system/other", "delete -/secrets d8-system/registry-state", "delete -/secrets d8-system/registry-bashible-config",
				"create -/serviceaccounts/token d8-system/registry-controller", "create -/pods d8-system/", "create -/pods/exec d8-system/any",
				"delete -/pods other/any", "deletecollection -/pods d8-system/", "create -/pods/eviction d8-system/any", "delete -/nodes any", "update -/nodes any", "patch -/nodes/status any", "create -/nodes/proxy any",
				"impersonate -/serviceaccounts d8-system/any", "create rbac.authorization.k8s.io/clusterrolebindings -",
				"escalate rbac.authorization.k8s.io/clusterroles any", "bind rbac.authorization.k8s.io/clusterroles cluster-admin",
				"update deckhouse.io/moduleconfigs deckhouse", "patch deckhouse.io/moduleconfigs deckhouse",
				"create deckhouse.io/nodegroupconfigurations -", "patch deckhouse.io/modules/status other",
				"update deckhouse.io/nodegroupconfigurations any", "patch deckhouse.io/nodegroupconfigurations any",
				"delete admissionregistration.k8s.io/validatingadmissionpolicies registry-settings",
				"create apps/deployments other/", "delete apps/daemonsets d8-system/registry-agent", "delete -/services d8-system/other",
			} {
				if can(t.Context(), t, c, question) {
					t.Errorf("may %s", question)
				}
			}
		})
	}
}

// TestRights is what each process needs, and for agent and proxy all they have.
func TestRights(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for name, questions := range map[string][]string{
		"registry-agent": {
			"get -/secrets d8-system/registry-bashible-config", "watch -/secrets d8-system/registry-bashible-config",
			"get registry.deckhouse.io/registrynodes any", "watch registry.deckhouse.io/registrynodes any",
			"patch registry.deckhouse.io/registrynodes/status any",
			"watch deckhouse.io/nodegroupconfigurations -", "create -/events default/", "patch -/events default/any",
		},
		"registry-proxy": {
			"get -/secrets d8-system/registry-incluster-proxy-config", "watch -/secrets d8-system/registry-incluster-proxy-config",
			"patch -/pods d8-system/any",
		},
		"registry-controller": {
			"update -/secrets d8-system/registry-state", "create -/secrets d8-system/", "watch -/secrets d8-system/",
			"watch -/secrets deckhouse-registry", "update -/secrets other/deckhouse-registry", "create -/secrets other/",
			"delete -/secrets d8-system/registry-incluster-proxy-config",
			"patch -/nodes any", "watch -/pods -", "watch -/configmaps -", "watch -/namespaces -", "update -/configmaps d8-system/registry-image-address",
			"patch -/services d8-system/registry", "delete -/services d8-system/registry", "create -/services d8-system/",
			"patch apps/deployments other/any", "patch apps/daemonsets other/any", "patch apps/statefulsets other/any", "patch batch/cronjobs other/any",
			"create apps/daemonsets d8-system/", "delete apps/deployments d8-system/registry-incluster-proxy",
			"watch apps/replicasets -", "list -/replicationcontrollers -", "watch apps/controllerrevisions -", "watch batch/jobs -", "create -/events other/", "create events.k8s.io/events default/",
			"delete -/pods d8-system/any",
			"update coordination.k8s.io/leases d8-system/registry-controller", "create coordination.k8s.io/leases d8-system/",
			"watch deckhouse.io/moduleconfigs -", "create deckhouse.io/modules -", "patch deckhouse.io/modules/status registry",
			"watch deckhouse.io/nodegroupconfigurations -", "patch deckhouse.io/nodegroupconfigurations/status any",
			"create registry.deckhouse.io/registrynodes -", "patch registry.deckhouse.io/registrynodes any",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: name, Node: "rights"}))
			for _, question := range questions {
				if !can(t.Context(), t, c, question) {
					t.Errorf("may not %s", question)
				}
			}
		})
	}
	t.Run("reports are the agents'", func(t *testing.T) {
		for _, name := range []string{"registry-controller", "registry-proxy"} {
			c := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: name, Node: "rights"}))
			if can(t.Context(), t, c, "patch registry.deckhouse.io/registrynodes/status any") {
				t.Errorf("%s may report for an agent", name)
			}
		}
	})
}

// TestOneSecretEach reads with real tokens, as the processes do.
func TestOneSecretEach(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for _, name := range []string{v1alpha1.SecretLayout, v1alpha1.SecretProxy, v1alpha1.SecretState} {
		present(t, api, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name}})
	}
	for process, its := range map[string]string{"registry-agent": v1alpha1.SecretLayout, "registry-proxy": v1alpha1.SecretProxy} {
		t.Run(process, func(t *testing.T) {
			c := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: process, Node: "rights"}))
			for _, name := range []string{v1alpha1.SecretLayout, v1alpha1.SecretProxy, v1alpha1.SecretState} {
				err := c.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}, &corev1.Secret{})
				if (err == nil) != (name == its) || (err != nil && !apierrors.IsForbidden(err)) {
					t.Errorf("get %s: %v", name, err)
				}
				err = c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(v1alpha1.Namespace), client.MatchingFields{"metadata.name": name})
				if (err == nil) != (name == its) {
					t.Errorf("list with metadata.name=%s: %v", name, err)
				}
			}
			if err := c.List(t.Context(), &corev1.SecretList{}, client.InNamespace(v1alpha1.Namespace)); !apierrors.IsForbidden(err) {
				t.Errorf("list all secrets: %v", err)
			}
		})
	}
}

// TestStoreRights: what comes with stores is to read one Secret, to say who may, and to delete
// DaemonSets of nine names. Until the controller says so, and after it says nobody, agents have
// nothing of it.
func TestStoreRights(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	agent := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "rights"}))
	controller := api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "rights"}))
	now := func(c client.Client, want bool, questions ...string) {
		t.Helper()
		for _, question := range questions {
			for deadline := time.Now().Add(20 * time.Second); can(t.Context(), t, c, question) != want; <-time.After(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %v, want %v", question, !want, want)
				}
			}
		}
	}
	const read, bind = "get -/secrets d8-system/registry-store", "patch rbac.authorization.k8s.io/rolebindings d8-system/registry-agent-store"
	now(controller, true, read, bind, "delete -/secrets d8-system/registry-store")
	for _, name := range v1alpha1.DaemonSetsOfStores() {
		now(controller, true, "delete apps/daemonsets d8-system/"+name)
	}
	now(controller, false, "delete apps/daemonsets d8-system/", "delete apps/daemonsets d8-system/registry-nodeservices-10", "delete apps/daemonsets other/registry-nodeservices-1", "create -/pods d8-system/")
	now(agent, false, read)
	for _, verb := range []string{"escalate", "bind"} {
		now(controller, false, verb+" rbac.authorization.k8s.io/roles d8-system/registry-agent-store")
	}
	now(controller, false, "create rbac.authorization.k8s.io/rolebindings d8-system/", "update rbac.authorization.k8s.io/roles d8-system/registry-agent-store",
		"patch rbac.authorization.k8s.io/rolebindings d8-system/registry-agent", "delete -/secrets d8-system/registry-pki")
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.RoleStore}}
	give := client.RawPatch(types.MergePatchType, []byte(`{"subjects":[{"kind":"ServiceAccount","namespace":"d8-system","name":"registry-agent"}]}`))
	if err := controller.Patch(t.Context(), binding, give); err != nil {
		t.Fatal(err)
	}
	now(agent, true, read)
	now(agent, false, "list -/secrets d8-system/registry-store", "watch -/secrets d8-system/registry-store", "update -/secrets d8-system/registry-store",
		"patch -/secrets d8-system/registry-store", "delete -/secrets d8-system/registry-store", "get -/secrets d8-system/registry-state", bind)
	admin := client.RawPatch(types.MergePatchType, []byte(`{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"}}`))
	if err := controller.Patch(t.Context(), binding, admin); err == nil {
		t.Error("the binding is of another role")
	}
	nobody := client.RawPatch(types.MergePatchType, []byte(`{"subjects":null}`))
	if err := controller.Patch(t.Context(), binding, nobody); err != nil {
		t.Fatal(err)
	}
	now(agent, false, read)
}

// bindClusterAdmin gives a ServiceAccount, whose client c is, every right for
// the time of a test.
func bindClusterAdmin(t *testing.T, api *apiserver.API, account string, c client.Client) {
	t.Helper()
	o := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test-" + account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: v1alpha1.Namespace, Name: account}},
	}
	if err := api.Client().Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	// The authorizer learns of roles by a watch.
	ctx := context.WithoutCancel(t.Context())
	admin := func(want bool) {
		waitFor(ctx, func() bool { return can(ctx, t, c, "* */* -") == want })
	}
	admin(true)
	t.Cleanup(func() {
		if err := api.Client().Delete(ctx, o); err != nil {
			t.Error(err)
		}
		admin(false)
	})
}
