package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// stepTimeout is for one step; a client of an API server that was away asks it
// again within half a minute.
const stepTimeout = 2 * time.Minute

// cluster is a real control plane with the real controller, and nodes with the real
// serving half and the real reporter. There is no containerd: what is served counts
// as proved. Without kubelets a switch gets as far as the in-cluster proxy.
type cluster struct {
	t *testing.T
	client.Client
	registry *testregistry.Registry
	agents   map[string]*agent // by node
}

func newCluster(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	api := server.Start(t)
	c := &cluster{t: t, Client: api.Client(), agents: map[string]*agent{}}
	c.registry = testregistry.New(t, testregistry.Options{TLS: true, Username: "user", Password: "password"})
	image := c.registry.PushRandom(t, "installed", "v1", 1, 64)
	for _, place := range []string{"first", "second", "third", "fourth", "fifth", "after"} {
		c.registry.Push(t, place, "v1", image)
	}
	u := c.registry.Upstream("installed")
	auths := map[string]any{"auths": map[string]any{u.Host: map[string]string{"username": u.Credentials.Username, "password": u.Credentials.Password}}}
	c.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretRegistry},
		Type:       corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{
			"address": []byte(u.Host), "path": []byte("/" + u.Path), "scheme": []byte(u.Scheme), "ca": []byte(u.CA),
			corev1.DockerConfigJsonKey: mustJSON(t, auths),
		},
	})
	for i, name := range nodes {
		c.node(name, i == 0)
		c.agents[name] = startAgent(t, name, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: name}))
	}
	cfg := controller.Config{
		REST:   api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"}),
		Config: component.Config{Image: ":v1", AgentPort: 5001}, PlatformSelector: "heritage=deckhouse", ClusterDomain: "cluster.local",
		Settings: switchover.DefaultSettings(), MetricsAddress: "0", HealthAddress: "0",
	}
	background(t, func(ctx context.Context) error {
		for ctx.Err() == nil { // as the kubelet runs it
			if err := controller.Run(ctx, cfg, testLog()); err != nil {
				testLog().Info("the controller ended", "err", err)
			}
		}
		return nil
	})
	return c
}

func testLog() *slog.Logger {
	if os.Getenv("REGISTRY_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return foreign.NewLog(os.Stderr, slog.LevelInfo)
}

// background runs something until the test ends, and waits for its end then.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("in the background: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
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

// ask asks for Direct on a path of the registry.
func (c *cluster) ask(place string) {
	c.t.Helper()
	u := c.registry.Upstream(place)
	section := map[string]string{"imagesRepo": u.Base(), "scheme": strings.ToUpper(string(u.Scheme)), "ca": u.CA, "username": u.Credentials.Username, "password": u.Credentials.Password}
	maps.DeleteFunc(section, func(_, v string) bool { return v == "" })
	enabled := true
	write := func() error {
		config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
		err := client.IgnoreNotFound(c.Get(c.t.Context(), client.ObjectKeyFromObject(config), config))
		config.Spec.Version, config.Spec.Enabled = 1, &enabled
		config.Spec.Settings = &apiextensionsv1.JSON{Raw: mustJSON(c.t, map[string]any{"registry": map[string]any{"mode": "Direct", "direct": section}})}
		switch {
		case err != nil:
			return err
		case config.ResourceVersion == "":
			return c.Create(c.t.Context(), config)
		}
		return c.Update(c.t.Context(), config)
	}
	// An API server that has just started knows its policies before their parameters.
	deadline := time.Now().Add(stepTimeout)
	err := write()
	for ; err != nil && time.Now().Before(deadline); err = write() {
		pause(100 * time.Millisecond)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// hour is what others change in an hour: versions grow.
func (c *cluster) hour() {
	c.t.Helper()
	others := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "others-"}}
	c.create(others)
	for i := range 500 {
		others.Data = map[string]string{"change": fmt.Sprint(i)}
		if err := c.Update(c.t.Context(), others); err != nil {
			c.t.Fatal(err)
		}
	}
}

// asked is what ask asked for.
func (c *cluster) asked() string {
	c.t.Helper()
	config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
	if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(config), config); err != nil {
		c.t.Fatal(err)
	}
	var settings struct {
		Registry struct {
			Direct struct {
				ImagesRepo string `json:"imagesRepo"`
			} `json:"direct"`
		} `json:"registry"`
	}
	if err := json.Unmarshal(config.Spec.Settings.Raw, &settings); err != nil {
		c.t.Fatal(err)
	}
	return path.Base(settings.Registry.Direct.ImagesRepo)
}

// layout is what is published to agents; zero before the first.
func (c *cluster) layout() layout.Layout {
	c.t.Helper()
	var secret corev1.Secret
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretAgent}, &secret)
	if client.IgnoreNotFound(err) != nil {
		c.t.Fatal(err)
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyLayout])
	if err != nil {
		return layout.Layout{} // none
	}
	return l
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
	if client.IgnoreNotFound(err) != nil {
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

// wantConverged waits until what is published has a higher generation, all nodes
// report exactly that, and each agent knows its RegistryNode as it is. It returns the
// generation.
func (c *cluster) wantConverged(when string, above int64) int64 {
	c.t.Helper()
	for deadline := time.Now().Add(stepTimeout); ; pause(50 * time.Millisecond) {
		l, lines := c.layout(), []string{}
		var nodes v1alpha1.RegistryNodeList
		if err := c.List(c.t.Context(), &nodes); err != nil {
			c.t.Fatal(err)
		}
		there := len(nodes.Items) > 0
		for _, n := range nodes.Items {
			s := n.Status
			known := ""
			if own := c.agents[n.Name].reporter.Latest(); own != nil {
				known = own.ResourceVersion
			}
			there = there && s.Generation == l.Generation && s.Version == l.Version() && known == n.ResourceVersion
			lines = append(lines, fmt.Sprintf("%s: is at version %s and knows %s, reports %d %q", n.Name, n.ResourceVersion, known, s.Generation, s.Message))
		}
		if there && l.Generation > above && c.conditions().done(v1alpha1.ConditionTransition) {
			return l.Generation
		}
		if time.Now().After(deadline) {
			slices.Sort(lines)
			c.t.Fatalf("%s: not within %v: published is %d, to be above %d\n%s\n%v", when, stepTimeout, l.Generation, above, strings.Join(lines, "\n"), c.conditions())
		}
	}
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
