package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/kubelet"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(server.Main(m))
}

const (
	// stepTimeout is for one step of the story; a healthy one takes a fraction.
	stepTimeout = 60 * time.Second
	// leaveBroken is how long what was broken before is waited for.
	leaveBroken = 3 * time.Second

	platform = "d8-monitoring"
	tenant   = "mine"
	ending   = "d8-ending"
	lost     = "lost" // the node that nobody hears of

	pathA = "deckhouse/ee"
	pathB = "mirror/d8"
)

// cluster is a real control plane with stand-ins for kubelets and agents.
type cluster struct {
	t *testing.T
	client.WithWatch
	a, b     *testregistry.Registry
	image    v1.Image // the one image of everything
	kubelets *kubelets
	from     layout.Name // what references start with before the switch

	unsettled string // what the platform still waits for
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	api := server.Start(t)
	apiserver.StartControllers(t, api)
	watching, err := client.NewWithWatch(api.Config(), client.Options{Scheme: api.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, WithWatch: watching}
	c.a = testregistry.New(t, testregistry.Options{TLS: true, Username: "license-token", Password: "key-of-a"})
	c.b = testregistry.New(t, testregistry.Options{TLS: true, Bearer: true, Username: "robot", Password: "password-of-b"})
	c.image = c.a.PushRandom(t, pathA, "v1", 1, 64)
	c.b.Push(t, pathB, "v1", c.image)
	c.from = layout.NameOf(c.a.Upstream(pathA))
	c.namespace(platform, map[string]string{"heritage": "deckhouse"})
	c.namespace(tenant, nil)
	c.namespace(ending, map[string]string{"heritage": "deckhouse"})
	for _, name := range []string{"master", "w1", "w2", lost} {
		c.node(name)
	}
	c.registrySecret()
	proxy := loopback.Address(t)
	c.kubelets = startKubelets(t, api, watching, proxy)
	startAgents(t, watching)
	settings := switchover.DefaultSettings()
	settings.ProxyIdle, settings.NotReadyFor = 0, time.Second
	c.run(controller.Config{
		REST:   api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"}),
		Config: component.Config{Image: ":v1", AgentPort: 5001, ProxyDial: proxy}, PlatformSelector: "heritage=deckhouse", ClusterDomain: "cluster.local",
		Settings: settings, MetricsAddress: "0", HealthAddress: "0", LeaveBroken: leaveBroken,
	})
	return c
}

// run runs the controller until the test ends.
func (c *cluster) run(cfg controller.Config) {
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("REGISTRY_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	background(c.t, func(ctx context.Context) {
		if err := controller.Run(ctx, cfg, log); err != nil && ctx.Err() == nil {
			c.t.Errorf("controller: %v", err)
		}
	})
}

// background runs something until the test ends, and waits for its end then.
func background(t *testing.T, run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

func (c *cluster) namespace(name string, labels map[string]string) {
	c.t.Helper()
	c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
}

func (c *cluster) create(o client.Object) {
	c.t.Helper()
	if err := c.Create(c.t.Context(), o); err != nil {
		c.t.Fatalf("create %T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
	}
}

// node makes a node as its kubelet and the node controller would keep it.
func (c *cluster) node(name string) {
	c.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelHostname: name}}}
	if name == "master" {
		n.Labels["node-role.kubernetes.io/control-plane"] = ""
	}
	c.create(n)
	n.Spec.Taints = nil // admission adds that it is not ready
	ready := corev1.ConditionTrue
	if name == lost {
		ready = corev1.ConditionUnknown
		n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule}}
	}
	if err := c.Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
	n.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "boot-of-" + name, Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.4.2"}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("200"),
	}
	n.Status.Capacity = n.Status.Allocatable
	if err := c.Status().Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
}

// registrySecret is Secret deckhouse-registry as an installer writes it.
func (c *cluster) registrySecret() {
	c.t.Helper()
	u := c.a.Upstream(pathA)
	config, err := json.Marshal(map[string]any{"auths": map[string]any{u.Host: map[string]string{
		"username": u.Credentials.Username, "password": u.Credentials.Password}}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretRegistry},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{"address": []byte(u.Host), "path": []byte("/" + u.Path), "scheme": []byte(u.Scheme), "ca": []byte(u.CA),
			corev1.DockerConfigJsonKey: config},
	})
}

// setDirect asks for Direct on an upstream.
func (c *cluster) setDirect(u upstream.Upstream) {
	c.t.Helper()
	section := map[string]string{"imagesRepo": u.Base(), "scheme": strings.ToUpper(string(u.Scheme)), "ca": u.CA, "username": u.Credentials.Username, "password": u.Credentials.Password}
	maps.DeleteFunc(section, func(_, v string) bool { return v == "" })
	raw, err := json.Marshal(map[string]any{"registry": map[string]any{"mode": "Direct", "direct": section}})
	if err != nil {
		c.t.Fatal(err)
	}
	enabled := true
	config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
	config.Spec.Version, config.Spec.Enabled, config.Spec.Settings = 1, &enabled, &apiextensionsv1.JSON{Raw: raw}
	c.create(config)
}

// conditions are those of Secret registry-state, by type.
func (c *cluster) conditions() map[string]metav1.Condition {
	c.t.Helper()
	var secret corev1.Secret
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, &secret)
	if err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatal(err)
	}
	var list []metav1.Condition
	if err := yaml.Unmarshal(secret.Data["conditions"], &list); err != nil {
		c.t.Fatal(err)
	}
	all := map[string]metav1.Condition{"mode": {Message: string(secret.Data["mode"])}}
	for _, condition := range list {
		all[condition.Type] = condition
	}
	return all
}

// until waits for something to be true of the conditions.
func (c *cluster) until(what string, ok func(map[string]metav1.Condition) bool) map[string]metav1.Condition {
	c.t.Helper()
	for deadline := time.Now().Add(stepTimeout); ; pause(30 * time.Millisecond) {
		conditions := c.conditions()
		if ok(conditions) {
			return conditions
		}
		if time.Now().After(deadline) {
			var lines []string
			for kind, condition := range conditions {
				lines = append(lines, fmt.Sprintf("%s=%s %s", kind, condition.Status, condition.Message))
			}
			lines = append(lines, c.unready()...)
			c.t.Fatalf("%s: not within %v\n%s\n%s", what, stepTimeout, strings.Join(lines, "\n"), c.unsettled)
		}
	}
}

// unready are the Pods that are not Ready.
func (c *cluster) unready() (lines []string) {
	c.t.Helper()
	var pods corev1.PodList
	if err := c.List(c.t.Context(), &pods); err != nil {
		c.t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if !kubelet.Ready(&pod) {
			lines = append(lines, fmt.Sprintf("Pod %s/%s on %q: %s %v", pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Status.Phase, pod.Status.Conditions))
		}
	}
	return lines
}

// eventually waits for something else.
func (c *cluster) eventually(what string, ok func() bool) {
	c.t.Helper()
	c.until(what, func(map[string]metav1.Condition) bool { return ok() })
}

func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
