package charts

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	control "github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/parts"
)

// A cluster is an API server with nothing of ours.
type cluster struct {
	client.Client
	plane      *apiserver.ControlPlane
	kubeconfig string
}

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard()) // the API server's warnings
	os.Exit(m.Run())
}

func newCluster(t *testing.T) cluster {
	t.Helper()
	parts.Need(t)
	dir, err := os.MkdirTemp("", "charts") // etcd needs a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	plane, err := apiserver.Launch(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(plane.Config(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return cluster{c, plane, apiserver.Kubeconfig(t, plane.Config())}
}

func (c cluster) helm(t *testing.T, args ...string) string {
	t.Helper()
	return mustHelm(t, append([]string{"--kubeconfig", c.kubeconfig, "-n", "d8-system"}, args...)...)
}

func (c cluster) get(t *testing.T, namespace, name string, o client.Object) bool {
	t.Helper()
	err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, o)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

// TestLifetime installs, upgrades, rolls back, uninstalls and installs again, on
// a cluster that has a CRD of the platform's already.
func TestLifetime(t *testing.T) {
	c := newCluster(t)
	foreign := crd("modules.deckhouse.io", "Module", "modules")
	if err := c.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	c.helm(t, "install", "registry", "registry", "-f", "testdata/full.yaml", "--create-namespace")
	c.checkInstalled(t)
	c.checkRestricted(t)
	c.switchOver(t)

	// What was switched since is not put back by an upgrade. A rollback puts back
	// the old release's image, which the controller moves again; neither is
	// refused what the controller has changed.
	c.helm(t, "upgrade", "registry", "registry", "-f", "testdata/full.yaml", "--set", "controller.replicas=3")
	c.checkSwitched(t, 3, "b.example.test/mirror")
	c.helm(t, "upgrade", "registry", "registry", "--reset-then-reuse-values", "--set", "image=:v2")
	c.checkSwitched(t, 3, "b.example.test/mirror")
	c.helm(t, "rollback", "registry", "1")
	c.checkSwitched(t, 1, "registry.example.test:5000/deckhouse/ee")

	hooks := c.runHooks(t)
	for _, at := range []struct{ mode, ready, words string }{
		{"Direct", "True", "mode Direct. Set spec.settings.registry to `mode: Unmanaged` in ModuleConfig deckhouse"},
		{"Unmanaged", "False", "mode Unmanaged is not Ready yet: FinalContainerdConfigReady: 1/2 node(s) ready"},
	} {
		c.state(t, at.mode, at.ready)
		out, err := helm(t, "--kubeconfig", c.kubeconfig, "-n", "d8-system", "uninstall", "registry")
		if err == nil || !strings.Contains(hooks.last(), at.words) {
			t.Errorf("uninstall in %s, Ready %s: %v\n%s\n%s", at.mode, at.ready, err, out, hooks.last())
		}
		if !c.get(t, "d8-system", "registry-controller", &appsv1.Deployment{}) {
			t.Fatal("the controller went in spite of the refusal")
		}
		if c.get(t, "d8-system", "registry-uninstall", &corev1.Pod{}) || c.get(t, "d8-system", "registry-uninstall", &corev1.ServiceAccount{}) {
			t.Error("a refused uninstallation leaves its rights behind")
		}
	}
	// To Helm a release whose uninstallation failed is half gone. docs/install.md
	// says how it is taken back.
	if out, err := helm(t, "--kubeconfig", c.kubeconfig, "-n", "d8-system", "upgrade", "registry", "registry", "-f", "testdata/full.yaml"); err == nil {
		t.Errorf("docs/install.md says that an upgrade takes a rollback first, and it does not: %s", out)
	}
	c.helm(t, "rollback", "registry", "4") // the last one
	c.helm(t, "upgrade", "registry", "registry", "-f", "testdata/full.yaml")

	c.state(t, "Unmanaged", "True")
	c.helm(t, "uninstall", "registry")
	t.Log(hooks.last())
	c.checkUninstalled(t)
	c.checkPresent(t)
}

func (c cluster) checkInstalled(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{}
	if !c.get(t, "", "d8-system", ns) || ns.Labels["pod-security.kubernetes.io/enforce"] != "privileged" {
		t.Errorf("namespace: %v", ns.Labels)
	}
	secret := &corev1.Secret{}
	c.get(t, "d8-system", "deckhouse-registry", secret)
	for key, want := range map[string]string{
		"address": "registry.example.test:5000", "path": "/deckhouse/ee", "scheme": "https",
		"ca":                       "-----BEGIN CERTIFICATE-----\nbm90IGEgcmVhbCBvbmU=\n-----END CERTIFICATE-----\n",
		corev1.DockerConfigJsonKey: `{"auths":{"registry.example.test:5000":{"auth":"cmVhZGVyOnNlY3JldDp3aXRoICJzaWducyI=","password":"secret:with \"signs\"","username":"reader"}}}`,
	} {
		if got := string(secret.Data[key]); got != want {
			t.Errorf("deckhouse-registry: %s is %q, want %q", key, got, want)
		}
	}
	d := &apiextensionsv1.CustomResourceDefinition{}
	if !c.get(t, "", "modules.deckhouse.io", d) || d.Annotations["controller-gen.kubebuilder.io/version"] != "" {
		t.Error("a CRD of the platform was overwritten")
	}
	for _, name := range []string{"moduleconfigs.deckhouse.io", "nodegroupconfigurations.deckhouse.io", "registrynodes.registry.deckhouse.io"} {
		if !c.get(t, "", name, &apiextensionsv1.CustomResourceDefinition{}) {
			t.Errorf("CRD %s is missing", name)
		}
	}
}

// checkRestricted makes a Pod of the controller's template where nothing but
// the restricted profile is allowed.
func (c cluster) checkRestricted(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "restricted", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{}
	c.get(t, "d8-system", "registry-controller", d)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "controller"}, Spec: d.Spec.Template.Spec}
	pod.Spec.ServiceAccountName = "default"
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "default"}}
	if err := client.IgnoreAlreadyExists(c.Create(t.Context(), sa)); err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Errorf("the controller's Pod is not restricted: %v", err)
	}
	c.checkHookRestricted(t)
	pod.Spec.Containers[0].SecurityContext.Capabilities = nil
	if err := c.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("a Pod with capabilities was accepted: %v", err)
	}
}

// checkHookRestricted has kubectl make the Pod of helm uninstall where the API
// server warns of everything that the restricted profile does not allow.
func (c cluster) checkHookRestricted(t *testing.T) {
	t.Helper()
	kubectl, err := apiserver.Binary("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "warned", Labels: map[string]string{"pod-security.kubernetes.io/warn": "restricted"}}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	objects, err := apiserver.ParseManifests([]byte(render(t, "-f", "testdata/full.yaml", "-s", "templates/uninstall.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if o.GetKind() != "Pod" {
			continue
		}
		for _, broken := range []bool{false, true} {
			o.SetNamespace(ns.Name)
			unstructured.RemoveNestedField(o.Object, "spec", "priorityClassName") // for d8-system, by its quota
			if broken {
				unstructured.RemoveNestedField(o.Object, "spec", "securityContext")
			}
			data, err := o.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			create := exec.CommandContext(t.Context(), kubectl, "--kubeconfig", c.kubeconfig, "create", "--dry-run=server", "-f", "-")
			create.Stdin = bytes.NewReader(data)
			out, err := create.CombinedOutput()
			if err != nil || strings.Contains(string(out), "Warning") != broken {
				t.Errorf("broken %t: %v: %s", broken, err, out)
			}
		}
		return
	}
	t.Error("the chart has no Pod")
}

// switchOver does what the controller does in a switch.
func (c cluster) switchOver(t *testing.T) {
	t.Helper()
	c.state(t, "Direct", "True")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: "deckhouse-registry"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"stringData":{"address":"b.example.test"}}`))
	if err := c.Patch(t.Context(), secret, patch, client.FieldOwner("registry-controller")); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: v1alpha1.RoleStore}}
	patch = client.RawPatch(types.MergePatchType, []byte(`{"subjects":[{"kind":"ServiceAccount","namespace":"d8-system","name":"registry-agent"}]}`))
	if err := c.Patch(t.Context(), binding, patch, client.FieldOwner("registry-controller")); err != nil {
		t.Fatal(err)
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: "registry-controller"}}
	patch = client.RawPatch(types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"b.example.test/mirror/registry@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}]`))
	if err := c.Patch(t.Context(), d, patch, client.FieldOwner("registry-controller")); err != nil {
		t.Fatal(err)
	}
	// As long as the controller owns the field Helm is refused it, if it wants
	// another value.
	if out, err := helm(t, "--kubeconfig", c.kubeconfig, "-n", "d8-system", "upgrade", "registry", "registry", "-f", "testdata/full.yaml", "--set", "image=:v2"); err == nil || !strings.Contains(out, "conflict") {
		t.Errorf("the negative control: %v %s", err, out)
	}
	release, err := control.Release(d, "registry-controller")
	if err != nil || release == nil {
		t.Fatalf("%v, %v", release, err)
	}
	if err := c.Patch(t.Context(), d, release, client.FieldOwner("registry-controller")); err != nil {
		t.Fatal(err)
	}
}

func (c cluster) checkSwitched(t *testing.T, replicas int32, base string) {
	t.Helper()
	secret, d := &corev1.Secret{}, &appsv1.Deployment{}
	c.get(t, "d8-system", "deckhouse-registry", secret)
	if got := string(secret.Data["address"]); got != "b.example.test" {
		t.Errorf("deckhouse-registry is put back to %s", got)
	}
	// The chart takes nothing from agents that run stores.
	binding := &rbacv1.RoleBinding{}
	if c.get(t, "d8-system", v1alpha1.RoleStore, binding); len(binding.Subjects) != 1 {
		t.Errorf("what stores serve by may be read by %v", binding.Subjects)
	}
	c.get(t, "d8-system", "registry-controller", d)
	if image := d.Spec.Template.Spec.Containers[0].Image; *d.Spec.Replicas != replicas || !strings.HasPrefix(image, base+"/registry@") && image != base+":v2" {
		t.Errorf("%d replicas of %s, want %d of %s", *d.Spec.Replicas, image, replicas, base)
	}
}

// checkUninstalled looks for anything that is left but the namespace, and what
// was there before.
func (c cluster) checkUninstalled(t *testing.T) {
	t.Helper()
	if !c.get(t, "", "d8-system", &corev1.Namespace{}) {
		t.Error("the namespace went with the module")
	}
	if !c.get(t, "", "modules.deckhouse.io", &apiextensionsv1.CustomResourceDefinition{}) {
		t.Error("a CRD of the platform went with the module")
	}
	kubectl, err := apiserver.Binary("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	left := ""
	err = wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		kinds := "deployments,daemonsets,pods,secrets,configmaps,services,serviceaccounts,roles,rolebindings,leases,poddisruptionbudgets,resourcequotas,networkpolicies," +
			"nodegroupconfigurations,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,customresourcedefinitions"
		kinds = strings.Replace(kinds, "nodegroupconfigurations,", "", 1) // its CRD is to be gone
		out, err := exec.CommandContext(ctx, kubectl, "--kubeconfig", c.kubeconfig, "-n", "d8-system", "get", kinds, "-o", "name").CombinedOutput()
		if err != nil {
			return false, err
		}
		left = ""
		for _, name := range strings.Fields(string(out)) {
			_, own, _ := strings.Cut(name, "/")
			kubernetes := strings.HasPrefix(own, "system:") || strings.Contains("admin edit view cluster-admin kube-root-ca.crt", own)
			if !kubernetes && own != "modules.deckhouse.io" {
				left += " " + name
			}
		}
		return left == "", nil
	})
	if err != nil {
		t.Errorf("left:%s (%v)", left, err)
	}
}

// checkPresent installs where namespace, CRDs and Secret are there and somebody
// else's.
func (c cluster) checkPresent(t *testing.T) {
	t.Helper()
	present := []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "d8-system"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: "deckhouse-registry"}},
	}
	somebodys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: "deckhouse-registry"}}
	if err := c.Create(t.Context(), somebodys); err != nil {
		t.Fatal(err)
	}
	mine := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"mine":"yes"}}}`))
	for _, o := range present {
		if err := c.Patch(t.Context(), o, mine, client.FieldOwner("user")); err != nil {
			t.Fatal(err)
		}
	}
	c.helm(t, "install", "registry", "registry", "-f", "testdata/minimal.yaml")
	for _, o := range present {
		before := o.GetResourceVersion()
		if !c.get(t, o.GetNamespace(), o.GetName(), o) || o.GetResourceVersion() != before {
			t.Errorf("%T %s was written", o, o.GetName())
		}
	}
}

// TestManifests applies the chart without Helm, once and again.
func TestManifests(t *testing.T) {
	c := newCluster(t)
	kubectl, err := apiserver.Binary("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := exec.CommandContext(t.Context(), "../hack/manifests.sh", "testdata/minimal.yaml").Output()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		apply := exec.CommandContext(t.Context(), kubectl, "--kubeconfig", c.kubeconfig, "apply", "--server-side", "-f", "-")
		apply.Stdin = bytes.NewReader(yaml)
		if out, err := apply.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if !c.get(t, "d8-system", "registry-controller", &appsv1.Deployment{}) || !c.get(t, "d8-system", "deckhouse-registry", &corev1.Secret{}) {
		t.Error("something is missing")
	}
}

func crd(name, kind, plural string) *apiextensionsv1.CustomResourceDefinition {
	yes := true
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "deckhouse.io", Scope: apiextensionsv1.ClusterScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Kind: kind, Plural: plural},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1alpha1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: &yes}},
			}},
		},
	}
}
