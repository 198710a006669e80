package hostile

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

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const (
	stepTimeout = 60 * time.Second // a healthy step takes a fraction
	pathA       = "deckhouse/ee"
	pathB       = "mirror/d8"
)

// cluster is a real API server with the real controller, two real registries and
// nodes whose agents report as honest ones do, each with its own token. Without
// runPods there are no kubelets: a switch gets as far as the in-cluster proxy,
// after every node.
type cluster struct {
	t *testing.T
	client.Client
	api  *apiserver.API
	a, b *testregistry.Registry
	// proxy is where the in-cluster proxy listens; empty without kubelets.
	proxy string
	// rotations are the controller's settings of them.
	rotations state.Rotations
	// selector is --platform-selector; nil for the default.
	selector *string

	mu     sync.Mutex
	agents map[string]client.Client // by node
	liars  map[string]bool          // nodes whose owner reports instead
}

// newCluster is in Unmanaged on registry A. The first node is control plane.
func newCluster(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	api := servers.TakeNew(t)
	c := &cluster{t: t, api: api, Client: api.Client(), agents: map[string]client.Client{}, liars: map[string]bool{}}
	c.a = testregistry.New(t, testregistry.Options{TLS: true, Username: "license-token", Password: "key-of-a"})
	c.b = testregistry.New(t, testregistry.Options{TLS: true, Bearer: true, Username: "robot", Password: "password-of-b"})
	c.b.Push(t, pathB, "v1", c.a.PushRandom(t, pathA, "v1", 1, 64))
	for i, name := range nodes {
		c.node(name, i == 0)
		c.agents[name] = api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: name}))
	}
	u := c.a.Upstream(pathA)
	c.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretRegistry},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{
			"address": []byte(u.Host), "path": []byte("/" + u.Path), "scheme": []byte(u.Scheme), "ca": []byte(u.CA),
			corev1.DockerConfigJsonKey: mustJSON(t, map[string]any{"auths": map[string]any{u.Host: map[string]string{
				"username": u.Credentials.Username, "password": u.Credentials.Password}}}),
		},
	})
	return c
}

// start runs the controller and the honest agents until the test ends.
func (c *cluster) start() {
	c.t.Helper()
	cfg := controller.Config{
		REST:   c.api.As(c.t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"}),
		Config: component.Config{Image: ":v1", AgentPort: 5001}, PlatformSelector: "heritage=deckhouse", ClusterDomain: "cluster.local",
		Settings: switchover.DefaultSettings(), Rotations: c.rotations, MetricsAddress: "0", HealthAddress: "0",
	}
	if c.selector != nil {
		cfg.PlatformSelector = *c.selector
	}
	if cfg.ProxyDial = c.proxy; c.proxy != "" {
		cfg.Settings.ProxyIdle = 0
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("REGISTRY_TEST_LOG") != "" {
		log = foreign.NewLog(os.Stderr, slog.LevelInfo)
	}
	c.background(func(ctx context.Context) error { return controller.Run(ctx, cfg, log) })
	c.background(func(ctx context.Context) error {
		for ; ctx.Err() == nil; pause(50 * time.Millisecond) {
			if err := c.report(ctx); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
}

func (c *cluster) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			c.t.Errorf("in the background: %v", err)
		}
	})
	c.t.Cleanup(func() { cancel(); running.Wait() })
}

// report lets each honest agent report what is published.
func (c *cluster) report(ctx context.Context) error {
	var secret corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretLayout}, &secret); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyLayout])
	if err != nil {
		l = layout.Layout{} // none yet
	}
	var nodes v1alpha1.RegistryNodeList
	if err := c.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		rn := &nodes.Items[i]
		c.mu.Lock()
		agent, liar := c.agents[rn.Name], c.liars[rn.Name]
		c.mu.Unlock()
		if agent == nil || liar || rn.Status.NodeUID != "" && rn.Status.Generation == l.Generation && rn.Status.Legacy == rn.Spec.Legacy {
			continue
		}
		c.honest(rn, l)
		if err := agent.Status().Update(ctx, rn); err != nil {
			return err
		}
	}
	return nil
}

// honest fills in what an agent says that serves a layout.
func (c *cluster) honest(rn *v1alpha1.RegistryNode, l layout.Layout) {
	rn.Status.NodeUID, rn.Status.BootID = string(rn.OwnerReferences[0].UID), "boot-of-"+rn.Name
	rn.Status.Preflight, rn.Status.Generation, rn.Status.Legacy = "Ready", l.Generation, rn.Spec.Legacy
	if l.Generation > 0 {
		rn.Status.Version = l.Version()
	}
}

func (c *cluster) create(o client.Object) {
	c.t.Helper()
	if err := c.Create(c.t.Context(), o); err != nil {
		c.t.Fatalf("create %T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
	}
}

func (c *cluster) node(name string, controlPlane bool) {
	c.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux", corev1.LabelHostname: name}}}
	if controlPlane {
		n.Labels["node-role.kubernetes.io/control-plane"] = ""
	}
	c.create(n)
	n.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "boot-of-" + name, Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.4.2"}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := c.Status().Update(c.t.Context(), n); err != nil {
		c.t.Fatal(err)
	}
}

// setDirect asks for Direct on an upstream.
func (c *cluster) setDirect(u upstream.Upstream) {
	c.t.Helper()
	section := map[string]string{"imagesRepo": u.Base(), "scheme": strings.ToUpper(string(u.Scheme)), "ca": u.CA, "username": u.Credentials.Username, "password": u.Credentials.Password}
	maps.DeleteFunc(section, func(_, v string) bool { return v == "" })
	c.ask(map[string]any{"mode": "Direct", "direct": section})
}

// ask writes the settings of the registry into ModuleConfig deckhouse.
func (c *cluster) ask(settings map[string]any) {
	c.t.Helper()
	enabled := true
	config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
	err := client.IgnoreNotFound(c.Get(c.t.Context(), client.ObjectKeyFromObject(config), config))
	config.Spec.Version, config.Spec.Enabled = 1, &enabled
	config.Spec.Settings = &apiextensionsv1.JSON{Raw: mustJSON(c.t, map[string]any{"registry": settings})}
	switch {
	case err != nil:
	case config.ResourceVersion == "":
		err = c.Create(c.t.Context(), config)
	default:
		err = c.Update(c.t.Context(), config)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// conditions are those of Secret registry-state, by type.
type conditions map[string]metav1.Condition

func (all conditions) done(kind string) bool { return all[kind].Status == metav1.ConditionTrue }

func (all conditions) String() string {
	var lines []string
	for kind, one := range all {
		lines = append(lines, fmt.Sprintf("%s=%s %q", kind, one.Status, one.Message))
	}
	return strings.Join(lines, "\n")
}

func (c *cluster) conditions() conditions {
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
	all := conditions{}
	for _, one := range list {
		all[one.Type] = one
	}
	return all
}

// until waits for something to be true of the conditions.
func (c *cluster) until(what string, ok func(conditions) bool) conditions {
	c.t.Helper()
	for deadline := time.Now().Add(stepTimeout); ; pause(30 * time.Millisecond) {
		all := c.conditions()
		if ok(all) {
			return all
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within %v\n%v", what, stepTimeout, all)
		}
	}
}

// says waits until a condition that is not True has a text in its message.
func (c *cluster) says(kind, text string) conditions {
	c.t.Helper()
	return c.until(kind+" says "+text, func(all conditions) bool { return !all.done(kind) && strings.Contains(all[kind].Message, text) })
}

// pause waits, where there is no event to wait for.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
