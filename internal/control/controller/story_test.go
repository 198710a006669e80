package controller

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// TestTheMainJob goes from Unmanaged on A to Direct on A, to new credentials, to
// Direct on B, and, with A switched off, to Unmanaged on B.
func TestTheMainJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	fixed := layout.Fixed().String()
	c.start(nil)
	a, b := c.upstreamA(), c.upstreamB()

	c.reaches(switchover.Unmanaged, a)
	if c.secret(v1alpha1.SecretLayout) != nil {
		t.Error("a fresh installation published a layout")
	}

	v := c.switchTo(a)
	c.wantConditions(v, switchover.Direct, a.Host)
	c.wantImages(layout.Fixed())
	c.wantOwn(a.Base())
	c.wantRegistry(fixed)
	c.wantModule("Ready", "True", "True")
	started := c.restarts()

	rotated := a
	rotated.Credentials.Username = "somebody-else"
	c.a.AddUser(rotated.Credentials.Username, rotated.Credentials.Password)
	c.switchTo(rotated)
	c.wantOnlyRestarted(started, "deckhouse")

	started = c.restarts()
	v = c.switchTo(b)
	c.wantConditions(v, switchover.Direct, b.Host)
	c.wantOnlyRestarted(started, "deckhouse", v1alpha1.DeploymentProxy)
	c.wantOwn(b.Base())
	c.wantNoTrace(a.Credentials.Password)

	c.a.Stop()
	c.ask(unmanaged)
	v = c.reaches(switchover.Unmanaged, b)
	c.wantConditions(v, switchover.Unmanaged, b.Host)
	c.wantImages(layout.NameOf(b))
	c.wantRegistry(b.Base())
	c.eventually("the proxy is gone", func() bool {
		return c.gone(&appsv1.Deployment{}, v1alpha1.DeploymentProxy) && c.gone(&corev1.Service{}, v1alpha1.ServiceRegistry) && c.gone(&corev1.Secret{}, v1alpha1.SecretProxy)
	})
	if u, problem := pullsecret.Installation(c.secret(v1alpha1.SecretRegistry)); u != b {
		t.Errorf("deckhouse-registry is read back as %v, %s", u, problem)
	}
	for _, l := range c.sim.layouts() {
		t.Logf("generation %d: %s, %v", l.Generation, l.Mode, l.Names())
	}
}

func (c *testbed) wantConditions(v view, mode switchover.Mode, host string) {
	c.t.Helper()
	want := append(switchover.Plan(mode), v1alpha1.ConditionReady)
	for i, condition := range v.conditions {
		if i >= len(want) || condition.Type != want[i] || condition.Status != metav1.ConditionTrue {
			c.t.Errorf("condition %d is %s=%s, want %v all True", i, condition.Type, condition.Status, want)
		}
		message := ""
		if condition.Type == v1alpha1.ConditionImages {
			message = fmt.Sprintf("%s: all %d items are checked", host, distinctImages)
		}
		if condition.Type == v1alpha1.ConditionStores && strings.HasPrefix(condition.Message, "3/3 node(s) ready, cache holds ") {
			continue // as from the pass after the switch on
		}
		if condition.Message != message {
			c.t.Errorf("%s says %q, want %q", condition.Type, condition.Message, message)
		}
	}
	if len(v.conditions) != len(want) {
		c.t.Errorf("%d conditions, want %d", len(v.conditions), len(want))
	}
}

func (c *testbed) wantImages(name layout.Name) {
	c.t.Helper()
	for _, where := range [][2]string{{v1alpha1.Namespace, "deckhouse"}, {"d8-monitoring", "prometheus"}} {
		if got := c.image(where[0], where[1]); !strings.HasPrefix(got, name.String()) {
			c.t.Errorf("%s/%s runs %s, want it under %s", where[0], where[1], got, name)
		}
	}
	if ds := c.daemonSet("d8-monitoring", "node-exporter"); !strings.HasPrefix(ds.Spec.Template.Spec.Containers[0].Image, name.String()) {
		c.t.Errorf("node-exporter runs %s", ds.Spec.Template.Spec.Containers[0].Image)
	}
	for _, namespace := range []string{v1alpha1.Namespace, "d8-monitoring"} {
		var s corev1.Secret
		if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: v1alpha1.SecretRegistry}, &s); err != nil {
			c.t.Fatalf("pull secret of %s: %v", namespace, err)
		}
		if got, err := pullsecret.CredentialsFor(s.Data[corev1.DockerConfigJsonKey], name.String()); err != nil || got.IsZero() {
			c.t.Errorf("pull secret of %s knows nothing of %s: %v", namespace, name, err)
		}
	}
}

func (c *testbed) wantOwn(base string) {
	c.t.Helper()
	ds := c.daemonSet(v1alpha1.Namespace, v1alpha1.DaemonSetAgent)
	for _, container := range ds.Spec.Template.Spec.Containers {
		if container.Image != base+":module" {
			c.t.Errorf("agent's %s runs %s, want it under %s", container.Name, container.Image, base)
		}
	}
	if got := c.image(v1alpha1.Namespace, v1alpha1.DeploymentProxy); got != base+":module" {
		c.t.Errorf("proxy runs %s, want it under %s", got, base)
	}
}

func (c *testbed) wantRegistry(base string) {
	c.t.Helper()
	s := c.secret(v1alpha1.SecretRegistry)
	if got := string(s.Data["address"]) + string(s.Data["path"]); got != base {
		c.t.Errorf("deckhouse-registry names %s, want %s", got, base)
	}
}

func (c *testbed) wantModule(phase, enabled, ready string) {
	c.t.Helper()
	got := ""
	c.eventually("Module registry is "+phase, func() bool {
		var m deckhousev1alpha1.Module
		if err := c.Get(c.t.Context(), client.ObjectKey{Name: v1alpha1.ModuleName}, &m); err != nil {
			return false
		}
		status := map[string]string{}
		for _, condition := range m.Status.Conditions {
			status[condition.Type] = string(condition.Status)
		}
		got = fmt.Sprint(m.Properties.Weight, m.Status.Phase, status)
		return m.Properties.Weight == 38 && string(m.Status.Phase) == phase &&
			status[deckhousev1alpha1.ConditionEnabledByModuleManager] == enabled && status[deckhousev1alpha1.ConditionIsReady] == ready
	})
	_ = got
}

// wantNoTrace fails if a password is still in one of our Secrets.
func (c *testbed) wantNoTrace(password string) {
	c.t.Helper()
	for _, name := range []string{v1alpha1.SecretRegistry, v1alpha1.SecretLayout, v1alpha1.SecretBootstrap, v1alpha1.SecretProxy} {
		s := c.secret(name)
		for key, data := range s.Data {
			if strings.Contains(string(data), password) {
				c.t.Errorf("Secret %s still has it in %s", name, key)
			}
		}
	}
}

func (c *testbed) restarts() map[string]int {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	out := map[string]int{}
	for k, v := range c.sim.restarts {
		out[k] = v
	}
	return out
}

func (c *testbed) wantOnlyRestarted(before map[string]int, names ...string) {
	c.t.Helper()
	allowed := map[string]int{}
	for _, n := range names {
		allowed[n] = 1
	}
	for name, count := range c.restarts() {
		if got := count - before[name]; got != allowed[name] {
			c.t.Errorf("%s was restarted %d times, want %d", name, got, allowed[name])
		}
	}
}

func (c *testbed) gone(o client.Object, name string) bool {
	return apierrors.IsNotFound(c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}, o))
}

func (c *testbed) daemonSet(namespace, name string) *appsv1.DaemonSet {
	c.t.Helper()
	var ds appsv1.DaemonSet
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &ds); err != nil {
		c.t.Fatal(err)
	}
	return &ds
}
