package installation

import (
	"encoding/json"
	"maps"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/upstream"
)

// Cluster is read and written by somebody with all rights.
type Cluster struct {
	client.Client
	// Limit is for one step; a healthy one takes a fraction.
	Limit time.Duration
	// Why says more where a step takes too long; it may be nil.
	Why func() string

	t      *testing.T
	logged logged
	hidden []string // see Hide
}

// New is a cluster on an API server.
func New(t *testing.T, c client.Client, limit time.Duration) *Cluster {
	t.Helper()
	made := &Cluster{Client: c, Limit: limit, t: t}
	t.Cleanup(made.wantNoSecretShown) // when all that logs has ended
	return made
}

// Make makes an object.
func (c *Cluster) Make(o client.Object) {
	c.t.Helper()
	if err := c.Create(c.t.Context(), o); err != nil {
		c.t.Fatalf("create %T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
	}
}

// Namespace makes one, unless an earlier test has: none is ever gone.
func (c *Cluster) Namespace(name string, labels map[string]string) {
	c.t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if err := c.Create(c.t.Context(), ns); err != nil && !apierrors.IsAlreadyExists(err) {
		c.t.Fatal(err)
	}
}

// Node makes a node that is Ready.
func (c *Cluster) Node(name string, controlPlane bool) *corev1.Node {
	c.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelHostname: name}}}
	if controlPlane {
		n.Labels["node-role.kubernetes.io/control-plane"] = ""
	}
	c.Make(n)
	n.Status.NodeInfo = corev1.NodeSystemInfo{BootID: BootID(name), Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.4.2"}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := c.Status().Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// Schedulable makes a node one that the real scheduler places Pods on: without the taint
// that admission adds to a new one, but with these.
func (c *Cluster) Schedulable(n *corev1.Node, taints ...corev1.Taint) {
	c.t.Helper()
	status := n.Status
	n.Spec.Taints = taints
	if err := c.Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
	n.Status = status
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("320"), corev1.ResourceMemory: resource.MustParse("640Gi"), corev1.ResourcePods: resource.MustParse("200"),
	}
	n.Status.Capacity = n.Status.Allocatable
	if err := c.Status().Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
}

// BootID is that of a node, by its name.
func BootID(node string) string { return "boot-of-" + node }

// RegistrySecret is Secret deckhouse-registry as an installer writes it.
func (c *Cluster) RegistrySecret(namespace string, u upstream.Upstream) {
	c.t.Helper()
	c.Hide(u.Credentials.Password)
	c.Make(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: v1alpha1.SecretRegistry},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{
			"address": []byte(u.Host), "path": []byte("/" + u.Path), "scheme": []byte(u.Scheme), "ca": []byte(u.CA),
			corev1.DockerConfigJsonKey: DockerConfig(u.Host, u.Credentials),
		},
	})
}

// DockerConfig is the content of an image pull secret.
func DockerConfig(host string, c upstream.Credentials) []byte {
	return encoded(map[string]any{"auths": map[string]any{host: map[string]string{"username": c.Username, "password": c.Password}}})
}

// Direct are the settings of Direct for an upstream, as users write them.
func Direct(u upstream.Upstream) map[string]any {
	section := map[string]string{"imagesRepo": u.Base(), "scheme": strings.ToUpper(string(u.Scheme)), "ca": u.CA, "username": u.Credentials.Username, "password": u.Credentials.Password}
	maps.DeleteFunc(section, func(_, v string) bool { return v == "" })
	return map[string]any{"mode": "Direct", "direct": section}
}

// Ask writes the settings of the registry into ModuleConfig deckhouse. An API server that
// has just started knows its policies before their parameters: it is asked again.
func (c *Cluster) Ask(settings any) {
	c.t.Helper()
	enabled, asked := true, encoded(map[string]any{"registry": settings})
	for _, found := range passwordOf.FindAllSubmatch(asked, -1) {
		c.Hide(string(found[1]))
	}
	write := func() error {
		config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
		err := client.IgnoreNotFound(c.Get(c.t.Context(), client.ObjectKeyFromObject(config), config))
		config.Spec.Version, config.Spec.Enabled = 1, &enabled
		config.Spec.Settings = &apiextensionsv1.JSON{Raw: asked}
		switch {
		case err != nil:
			return err
		case config.ResourceVersion == "":
			return c.Create(c.t.Context(), config)
		}
		return c.Update(c.t.Context(), config)
	}
	err := write()
	for deadline := time.Now().Add(c.Limit); err != nil && time.Now().Before(deadline); err = write() {
		Pause(100 * time.Millisecond)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

var passwordOf = regexp.MustCompile(`"password":"([^"]*)"`)

// encoded is the JSON of maps of strings, which cannot fail.
func encoded(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
