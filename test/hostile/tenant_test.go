package hostile

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// Namespaces: two of tenants, of which one has the name of a platform's, and two of
// the platform's.
const (
	mine   = "mine"
	posing = "d8-evil"
	listed = "d8-monitoring"
)

// tenantOf makes a namespace without labels, and its administrator, with the rights
// of Kubernetes' own role for that.
func (c *cluster) tenantOf(namespace string) client.Client {
	c.t.Helper()
	name := "tenant-of-" + namespace
	c.Make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	for _, part := range []string{"view", "edit", "admin"} {
		c.bind(namespace, name, "system:aggregate-to-"+part)
	}
	config := rest.CopyConfig(c.api.Config())
	config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:authenticated"}}
	return c.api.ClientFor(c.t, config)
}

// bind gives somebody a ClusterRole in a namespace.
func (c *cluster) bind(namespace, user, role string) {
	c.t.Helper()
	c.Make(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	})
}

func podOf(namespace, name, image string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"heritage": "deckhouse", "app": name}},
		Spec: corev1.PodSpec{
			Containers:       []corev1.Container{{Name: "c0", Image: image}},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: v1alpha1.SecretRegistry}},
		},
	}
}

// deploymentOf has as many containers as images.
func deploymentOf(namespace, name string, images ...string) *appsv1.Deployment {
	pod := podOf(namespace, name, images[0])
	d := &appsv1.Deployment{ObjectMeta: pod.ObjectMeta, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels}, Spec: pod.Spec},
	}}
	for i, image := range images[1:] {
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", i+1), Image: image})
	}
	return d
}

// listOf is a ConfigMap of required images.
func listOf(namespace, name, digests string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{v1alpha1.LabelRequiredImages: "true"}},
		Data:       map[string]string{"images_digests.json": digests},
	}
}

// digests are thousands that no registry has.
func digests() string {
	lines := make([]string, 0, 8000)
	for i := range cap(lines) {
		lines = append(lines, fmt.Sprintf(`"i%d":"sha256:%064x"`, i, i))
	}
	return `{"module":{` + strings.Join(lines, ",") + `}}`
}

// TestTenantsHoldNothingUp: tenants make all that they can think of before a
// switch, and the switch comes to its end, as do the way back and the return to the
// legacy format. What is theirs is as they made it.
func TestTenantsHoldNothingUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master")
	c.runPods()
	c.Make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: listed, Labels: map[string]string{"heritage": "deckhouse"}}})
	base, fixed := layout.NameOf(c.a.Upstream(pathA)), layout.Fixed()
	c.Make(deploymentOf(listed, "web", base.Reference(":v1")))
	many := make([]string, 500)
	for i := range many {
		many[i] = base.Reference(fmt.Sprintf("%s:%d", missing, i))
	}
	attempts := map[string][]client.Object{
		"Pod of the fixed address, image missing": {podOf(mine, "fixed", fixed.Reference(missing+":1"))},
		"Pod of the old address, image missing":   {podOf(mine, "old", base.Reference(missing+":1"))},
		"ConfigMap of required images, no JSON":   {listOf(mine, "malformed", "{{{")},
		"ConfigMap of 8000 fake digests":          {listOf(mine, "fake", digests())},
		"Deployment with the platform's label":    {deploymentOf(mine, "unready", base.Reference(missing+":1"))},
		"Deployment with 500 containers":          {deploymentOf(mine, "many", many...)},
		"Deployment, ConfigMap in d8-evil":        {deploymentOf(posing, "evil", base.Reference(missing+":1")), listOf(posing, "fake", digests())},
	}
	annotated := deploymentOf(mine, "annotated", base.Reference(missing+":2"))
	annotated.Annotations = map[string]string{
		v1alpha1.AnnotationRepointed: "99999999999", v1alpha1.AnnotationAvailable: "-7", v1alpha1.AnnotationRepoint: "true", v1alpha1.AnnotationExclude: "true",
		v1alpha1.AnnotationHosts: "*", v1alpha1.AnnotationVersion: "x",
	}
	attempts["every annotation of the module"] = []client.Object{annotated}
	forged := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: mine, Name: v1alpha1.SecretRegistry, Annotations: map[string]string{v1alpha1.AnnotationHosts: "x.io"}},
		Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{}`)}}
	attempts["a Secret like a copy of the pull secret"] = []client.Object{forged}
	tenants := map[string]client.Client{mine: c.tenantOf(mine), posing: c.tenantOf(posing)}
	for tried, objects := range attempts {
		for _, o := range objects {
			if err := tenants[o.GetNamespace()].Create(t.Context(), o); err != nil {
				t.Fatalf("%s: %v", tried, err)
			}
		}
	}
	label := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"heritage":"deckhouse"}}}`))
	if err := tenants[mine].Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: mine}}, label); !apierrors.IsForbidden(err) {
		t.Errorf("a tenant labels their namespace: %v", err)
	}
	note(t, tenant, "label their own Namespace as the platform's, with role admin in it", "refused by the API server")

	c.start()
	c.Until("Unmanaged is Ready", func(all installation.Conditions) bool { return all.Done(v1alpha1.ConditionReady) })
	c.Ask(installation.Direct(c.b.Upstream(pathB)))
	ready := c.Until("Direct is Ready", func(all installation.Conditions) bool {
		return all.Done(v1alpha1.ConditionProxy) && all.Done(v1alpha1.ConditionReady)
	})
	for _, kind := range []string{v1alpha1.ConditionImages, v1alpha1.ConditionFinal} {
		t.Log(kind, ready[kind].Message)
		for _, want := range []string{"of 2 namespace(s) that are not the platform's are not checked: d8-evil, mine", "3 ConfigMap(s) " + v1alpha1.LabelRequiredImages} {
			if !strings.Contains(ready[kind].Message, want) {
				t.Errorf("%s says %q, without %q", kind, ready[kind].Message, want)
			}
		}
	}
	asked := c.b.Count(func(r testregistry.Request) bool {
		return strings.Contains(r.Path, missing) || strings.Contains(r.Path, "sha256:000000000000")
	})
	if asked > 0 {
		t.Errorf("the registry was asked for %d images of tenants", asked)
	}
	c.wantAsMade(attempts)
	for tried := range attempts {
		note(t, tenant, tried, "the switch reaches Ready; theirs is not asked for, not moved, counted in a condition")
	}
	c.wantNoPullSecret(posing, forged)
	c.goesBack()
}

// wantAsMade fails where a tenant's object is changed. Its status is others' work.
func (c *cluster) wantAsMade(attempts map[string][]client.Object) {
	c.t.Helper()
	for tried, objects := range attempts {
		for _, o := range objects {
			d, ok := o.(*appsv1.Deployment)
			if !ok {
				continue
			}
			var now appsv1.Deployment
			if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(d), &now); err != nil {
				c.t.Fatal(err)
			}
			if now.Generation != d.Generation || now.Annotations[v1alpha1.AnnotationRepointed] != d.Annotations[v1alpha1.AnnotationRepointed] {
				c.t.Errorf("%s: Deployment %s was changed", tried, d.Name)
			}
		}
	}
	var web appsv1.Deployment
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: listed, Name: "web"}, &web); err != nil {
		c.t.Fatal(err)
	}
	if got := web.Spec.Template.Spec.Containers[0].Image; got != layout.Fixed().Reference(":v1") {
		c.t.Errorf("the platform's own workload has %s", got)
	}
}

// wantNoPullSecret: the platform's namespace has one, others have none, or theirs.
func (c *cluster) wantNoPullSecret(none string, forged *corev1.Secret) {
	c.t.Helper()
	var s corev1.Secret
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: listed, Name: v1alpha1.SecretRegistry}, &s); err != nil {
		c.t.Errorf("the platform's namespace has no pull secret: %v", err)
	}
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: none, Name: v1alpha1.SecretRegistry}, &s); !apierrors.IsNotFound(err) {
		c.t.Errorf("namespace %s got a pull secret, or %v", none, err)
	}
	if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(forged), &s); err != nil || string(s.Data[corev1.DockerConfigJsonKey]) != `{}` {
		c.t.Errorf("a tenant's Secret was filled: %v", err)
	}
	note(c.t, tenant, "get the registry's password by a pod in d8-evil, or by a Secret like a copy", "no Secret, and theirs stays as it is")
}

// goesBack: to Unmanaged, and then by deleting the layout to the legacy format,
// while pods of tenants name the fixed address.
func (c *cluster) goesBack() {
	c.t.Helper()
	c.Ask(map[string]any{"mode": "Unmanaged"})
	c.Until("Unmanaged is Ready", func(all installation.Conditions) bool {
		return all.Done(v1alpha1.ConditionCleanup) && all.Done(v1alpha1.ConditionReady)
	})
	c.delete(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretLayout}})
	all := c.Until("the legacy format", func(all installation.Conditions) bool {
		return all.Done(v1alpha1.ConditionReady) && strings.Contains(all[v1alpha1.ConditionFinal].Message, "names that nobody serves any more")
	})
	var rn v1alpha1.RegistryNode
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: "master"}, &rn); err != nil || !rn.Status.Legacy {
		c.t.Errorf("the node did not go back: %v", err)
	}
	c.t.Log(all[v1alpha1.ConditionFinal].Message)
	note(c.t, tenant, "keep the module in the cluster by a pod of the fixed address", "nodes go back; the pod is named in a condition")
}

// TestRightsOnEverythingIncludeTheNamespace: to the API server a Namespace is in
// itself, so that a role with all rights in it may label it. Where tenants have such
// a role, operators list the platform's namespaces and select none by label.
func TestRightsOnEverythingIncludeTheNamespace(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "master")
	theirs := c.tenantOf(mine)
	c.bind(mine, "tenant-of-"+mine, "cluster-admin")
	label := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"heritage":"deckhouse"}}}`))
	if err := theirs.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: mine}}, label); err != nil {
		t.Fatalf("the API server is stricter than the documents say: %v", err)
	}
	if err := theirs.Create(t.Context(), listOf(mine, "malformed", "{{{")); err != nil {
		t.Fatal(err)
	}
	c.selector = ptr.To("")
	c.start()
	c.Until("Unmanaged is Ready", func(all installation.Conditions) bool { return all.Done(v1alpha1.ConditionReady) })
	note(t, tenant, "label their own Namespace as the platform's, with all rights in it", "allowed by the API server; with value platformSelector empty the label means nothing")
}
