package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// timeout is for one step of a test. A step that works takes a fraction of it.
const timeout = 60 * time.Second

// testbed is a cluster without kubelets: a real API server, real registries, and a
// simulator of what the controller does not do itself.
type testbed struct {
	t   *testing.T
	api *apiserver.API
	*installation.Cluster
	a, b   *testregistry.Registry
	images map[string]v1.Image // name -> image, in both registries
	cfg    Config
	sim    *simulator
}

// newCluster empties the API server and fills it with a small platform in
// Unmanaged on registry A.
func newCluster(t *testing.T) *testbed {
	t.Helper()
	return newClusterOn(t, servers.Take(t))
}

func newClusterOn(t *testing.T, api *apiserver.API) *testbed {
	t.Helper()
	c := &testbed{t: t, api: api, Cluster: installation.New(t, api.Client(), timeout)}
	c.empty()
	c.a = testregistry.New(t, testregistry.Options{TLS: true, Username: "license-token", Password: "key-of-a"})
	c.b = testregistry.New(t, testregistry.Options{TLS: true, Bearer: true, Username: "robot", Password: "password-of-b"})
	c.images = map[string]v1.Image{}
	for _, name := range []string{"v1", "alpha", "beta", "gamma", "delta", "module"} {
		c.images[name] = c.a.PushRandom(t, pathA, name, 1, 64)
		c.b.Push(t, pathB, name, c.images[name])
	}
	c.cfg.Image = ":module"
	c.cfg.PlatformSelector, c.cfg.Stores = "heritage=deckhouse", stores.DefaultConfig()
	c.cfg.ClusterDomain = "cluster.local"
	c.cfg.AgentPort = 5001
	c.cfg.Settings = switchover.DefaultSettings()
	c.cfg.Settings.ProxyIdle = 0
	c.cfg.MetricsAddress, c.cfg.HealthAddress = "0", "0"
	c.platform()
	c.cfg.REST = api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"})
	c.sim = simulate(c)
	c.cfg.ProxyDial = c.sim.gatewayAddress
	return c
}

const (
	pathA = "deckhouse/ee"
	pathB = "mirror/d8"
)

func (c *testbed) upstreamA() upstream.Upstream { return c.a.Upstream(pathA) }
func (c *testbed) upstreamB() upstream.Upstream { return c.b.Upstream(pathB) }

func (c *testbed) digest(name string) string {
	d, err := c.images[name].Digest()
	if err != nil {
		c.t.Fatal(err)
	}
	return d.String()
}

// empty removes what an earlier test left. There is no garbage collector.
func (c *testbed) empty() {
	c.t.Helper()
	ctx := c.t.Context()
	// Policies for users are tested elsewhere, and removed here: the controller
	// must see what they would refuse. Policies for our processes stay.
	var bindings admissionv1.ValidatingAdmissionPolicyBindingList
	if err := c.List(ctx, &bindings); err != nil {
		c.t.Fatal(err)
	}
	for i := range bindings.Items {
		if b := &bindings.Items[i]; !strings.HasSuffix(b.Name, "-writes") && !strings.HasPrefix(b.Name, "registry-controller-") {
			if err := c.Delete(ctx, b); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	everything := []client.ObjectList{
		&deckhousev1alpha1.ModuleConfigList{}, &deckhousev1alpha1.ModuleList{}, &v1alpha1.RegistryNodeList{},
		&appsv1.DeploymentList{}, &appsv1.DaemonSetList{}, &appsv1.StatefulSetList{}, &appsv1.ReplicaSetList{}, &appsv1.ControllerRevisionList{},
		&batchv1.JobList{}, &batchv1.CronJobList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.ServiceList{}, &corev1.NodeList{},
	}
	for _, list := range everything {
		if err := c.List(ctx, list); err != nil {
			c.t.Fatal(err)
		}
		for _, o := range itemsOf(c.t, list) {
			if strings.HasPrefix(o.GetNamespace(), "kube-") || o.GetNamespace() == "default" {
				continue
			}
			err := c.Delete(ctx, o, client.GracePeriodSeconds(0))
			for deadline := time.Now().Add(timeout); apierrors.IsInvalid(err) || apierrors.IsForbidden(err); err = c.Delete(ctx, o) {
				if time.Now().After(deadline) { // a policy works for a while after its binding is deleted
					break
				}
				installation.Pause(20 * time.Millisecond)
			}
			if err != nil && !apierrors.IsNotFound(err) {
				c.t.Fatal(err)
			}
		}
	}
}

func itemsOf(t *testing.T, list client.ObjectList) []client.Object {
	t.Helper()
	var out []client.Object
	switch l := list.(type) {
	case *deckhousev1alpha1.ModuleConfigList:
		out = pointers(l.Items)
	case *deckhousev1alpha1.ModuleList:
		out = pointers(l.Items)
	case *v1alpha1.RegistryNodeList:
		out = pointers(l.Items)
	case *appsv1.DeploymentList:
		out = pointers(l.Items)
	case *appsv1.DaemonSetList:
		out = pointers(l.Items)
	case *appsv1.StatefulSetList:
		out = pointers(l.Items)
	case *appsv1.ReplicaSetList:
		out = pointers(l.Items)
	case *appsv1.ControllerRevisionList:
		out = pointers(l.Items)
	case *batchv1.JobList:
		out = pointers(l.Items)
	case *batchv1.CronJobList:
		out = pointers(l.Items)
	case *corev1.PodList:
		out = pointers(l.Items)
	case *corev1.SecretList:
		out = pointers(l.Items)
	case *corev1.ConfigMapList:
		out = pointers(l.Items)
	case *corev1.ServiceList:
		out = pointers(l.Items)
	case *corev1.NodeList:
		out = pointers(l.Items)
	default:
		t.Fatalf("%T is not known here", list)
	}
	return out
}

func pointers[T any, P interface {
	*T
	client.Object
}](items []T) []client.Object {
	out := make([]client.Object, len(items))
	for i := range items {
		out[i] = P(&items[i])
	}
	return out
}

// start runs a controller until the test ends or stop is called.
func (c *testbed) start(with *rest.Config) (stop func()) {
	c.t.Helper()
	cfg := c.cfg
	if with != nil {
		cfg.REST = with
	}
	return installation.Background(c.t, func(ctx context.Context) error { return Run(ctx, cfg, c.Log()) })
}

// begin starts a controller, and waits until it is in Unmanaged on registry A.
func (c *testbed) begin() (stop func()) {
	c.t.Helper()
	stop = c.start(nil)
	c.reaches(switchover.Unmanaged, c.upstreamA())
	return stop
}

// switchTo asks for Direct on an upstream, and waits for it.
func (c *testbed) switchTo(u upstream.Upstream) view {
	c.t.Helper()
	c.ask(settingsOf(u))
	return c.reaches(switchover.Direct, u)
}

// ask writes ModuleConfig deckhouse with these settings of the registry.
func (c *testbed) ask(settings string) {
	c.t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(settings))
	if err != nil {
		c.t.Fatal(err)
	}
	c.Ask(json.RawMessage(raw))
}

// settingsOf are the settings of Direct for an upstream.
func settingsOf(u upstream.Upstream) string { return string(cluster.MustJSON(installation.Direct(u))) }

const unmanaged = "mode: Unmanaged"

// view is Secret registry-state as users see it.
type view struct {
	mode, target string
	conditions   []metav1.Condition
	doc          state.Document
}

func (v view) condition(kind string) metav1.Condition {
	i := slices.IndexFunc(v.conditions, func(c metav1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return metav1.Condition{}
	}
	return v.conditions[i]
}

func (v view) ready(mode switchover.Mode) bool {
	return v.mode == string(mode) && v.target == string(mode) && v.condition(v1alpha1.ConditionReady).Status == metav1.ConditionTrue
}

func (v view) String() string {
	lines := []string{fmt.Sprintf("mode %s, target %s, generation %d, desired %d, safe %d, bases %v", v.mode, v.target, v.doc.Generation, v.doc.Desired.Layout.Generation, v.doc.SafeGeneration, v.doc.Bases)}
	for _, c := range v.conditions {
		lines = append(lines, fmt.Sprintf("  %s=%s %q", c.Type, c.Status, c.Message))
	}
	return strings.Join(lines, "\n")
}

func (c *testbed) state() view {
	c.t.Helper()
	var secret corev1.Secret
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, &secret); err != nil {
		if apierrors.IsNotFound(err) {
			return view{}
		}
		c.t.Fatal(err)
	}
	v := view{mode: string(secret.Data[state.KeyMode]), target: string(secret.Data[state.KeyTargetMode])}
	if err := yaml.Unmarshal(secret.Data[state.KeyConditions], &v.conditions); err != nil {
		c.t.Fatal(err)
	}
	if doc, err := state.Decode(secret.Data[state.KeyState]); err == nil {
		v.doc = doc
	}
	return v
}

// until waits until something is true of the state. What names it in a failure.
func (c *testbed) until(what string, ok func(view) bool) view {
	c.t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		v := c.state()
		if ok(v) {
			return v
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within %v\n%v", what, timeout, v)
		}
		installation.Pause(20 * time.Millisecond)
	}
}

// eventually waits until something else is true.
func (c *testbed) eventually(what string, ok func() bool) {
	c.t.Helper()
	c.until(what, func(view) bool { return ok() })
}

// reaches waits until a target is Ready.
func (c *testbed) reaches(mode switchover.Mode, u upstream.Upstream) view {
	c.t.Helper()
	return c.until(fmt.Sprintf("Ready in %s on %s", mode, u), func(v view) bool {
		return v.ready(mode) && v.doc.Active == switchover.Target{Mode: mode, Upstream: u}
	})
}

func (c *testbed) secret(name string) *corev1.Secret {
	c.t.Helper()
	var s corev1.Secret
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}, &s)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return &s
}

// layout is what is published; zero when nothing is.
func (c *testbed) layout() layout.Layout {
	c.t.Helper()
	return state.Published(c.secret(v1alpha1.SecretLayout)).Layout
}

func (c *testbed) image(namespace, name string) string {
	c.t.Helper()
	var d appsv1.Deployment
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &d); err != nil {
		c.t.Fatal(err)
	}
	return d.Spec.Template.Spec.Containers[0].Image
}
