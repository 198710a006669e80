package controller

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/installation"
)

// TestWrongCredentialsReachNoNode: the condition names the registry and the error.
// Layout and nodes are not changed. With the right credentials the switch goes on.
func TestWrongCredentialsReachNoNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	c.switchTo(c.upstreamA())
	layoutBefore, nodeBefore := c.secret(v1alpha1.SecretLayout).ResourceVersion, c.registryNode("worker").ResourceVersion

	wrong := c.upstreamB()
	wrong.Credentials.Password = "wr0ng-pa55word"
	c.ask(settingsOf(wrong))
	v := c.until("it is told", func(v view) bool {
		return v.condition(v1alpha1.ConditionImages).Status == metav1.ConditionFalse && strings.Contains(v.condition(v1alpha1.ConditionImages).Message, "401")
	})
	message := v.condition(v1alpha1.ConditionImages).Message
	t.Log(message)
	if !strings.Contains(message, wrong.Host) || strings.Contains(message, wrong.Credentials.Password) {
		t.Errorf("the message is %q", message)
	}
	c.wantModule("Reconciling", "True", "False")
	if got := c.secret(v1alpha1.SecretLayout).ResourceVersion; got != layoutBefore {
		t.Error("the layout was written")
	}
	if got := c.registryNode("worker").ResourceVersion; got != nodeBefore {
		t.Error("RegistryNode was written")
	}
	c.switchTo(c.upstreamB())
}

func (c *testbed) registryNode(name string) *v1alpha1.RegistryNode {
	c.t.Helper()
	var rn v1alpha1.RegistryNode
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: name}, &rn); err != nil {
		c.t.Fatal(err)
	}
	return &rn
}

// TestAnAbsentSpecIsNoSpec: when ModuleConfig is gone or wrong, nothing moves and
// Ready says why. A disabled module is shown as disabled.
func TestAnAbsentSpecIsNoSpec(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	c.switchTo(c.upstreamA())
	published := c.secret(v1alpha1.SecretLayout).ResourceVersion

	config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
	if err := c.Delete(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	c.says("ModuleConfig deckhouse does not exist.")
	c.ask("mode: Direct\ndirect: {imagesRepo: 'http://no.such/form'}")
	c.says("registry.direct: imagesRepo")
	c.ask("mode: Bundle")
	c.says(`Unknown registry mode: "Bundle"`)

	off := false
	if err := c.Create(t.Context(), &deckhousev1alpha1.ModuleConfig{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleName}, Spec: deckhousev1alpha1.ModuleConfigSpec{Enabled: &off},
	}); err != nil {
		t.Fatal(err)
	}
	c.ask(settingsOf(c.upstreamB()))
	c.wantModule("Available", "False", "False")
	if got := c.secret(v1alpha1.SecretLayout).ResourceVersion; got != published {
		t.Error("the layout was written")
	}
	if v := c.state(); !v.ready(switchover.Direct) || v.doc.Active.Upstream != c.upstreamA() {
		t.Errorf("the target does not hold: %v", v)
	}
}

// says waits until Ready is True and its message contains a text.
func (c *testbed) says(text string) {
	c.t.Helper()
	c.until("Ready says "+text, func(v view) bool {
		ready := v.condition(v1alpha1.ConditionReady)
		return ready.Status == metav1.ConditionTrue && strings.Contains(ready.Message, text)
	})
}

// TestReappliersAreListedAndLeft: what kustomize-controller applies keeps its
// images, and their old name is still served. The same holds for workloads that
// are opted out, and for ReplicaSets that a rollback may need.
func TestReappliersAreListedAndLeft(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	old := layout.NameOf(c.upstreamA())
	applied := deployment("d8-monitoring", "grafana", old.Reference("@"+c.digest("alpha")))
	c.applyAs("kustomize-controller", applied)
	opted := deployment("d8-monitoring", "loki", old.Reference("@"+c.digest("beta")))
	opted.Annotations = map[string]string{v1alpha1.AnnotationRepoint: "false"}
	c.Make(opted)
	c.Make(&appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d8-monitoring", Name: "prometheus-6d4cf56db6", Labels: map[string]string{"app": "prometheus"}},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "p"}}, Template: template("p", old.Reference("@"+c.digest("gamma")))},
	})
	c.begin()
	v := c.switchTo(c.upstreamB())
	message := v.condition(v1alpha1.ConditionFinal).Message
	t.Log(message)
	for _, user := range []string{"Deployment d8-monitoring/grafana", "Deployment d8-monitoring/loki", "ReplicaSet d8-monitoring/prometheus-6d4cf56db6"} {
		if !strings.Contains(message, user) {
			t.Errorf("Final does not list %s: %q", user, message)
		}
	}
	for _, name := range []string{"grafana", "loki"} {
		if got := c.image("d8-monitoring", name); !strings.HasPrefix(got, old.String()) {
			t.Errorf("%s was re-pointed to %s", name, got)
		}
	}
	route, ok := c.layout().Route(old)
	if !ok || len(route.Upstreams) != 1 || route.Upstreams[0] != c.upstreamB() {
		t.Errorf("the old name is served by %v", route.Upstreams)
	}
}

// applyAs creates an object as a GitOps controller does.
func (c *testbed) applyAs(manager string, o *appsv1.Deployment) {
	c.t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		c.t.Fatal(err)
	}
	delete(fields, "status")
	u := &unstructured.Unstructured{Object: fields}
	u.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("Deployment"))
	if err := c.Apply(c.t.Context(), client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(manager)); err != nil {
		c.t.Fatal(err)
	}
}

// TestASilentAgentIsNamedAndLeftOutWhenItsNodeIsDown: a node whose agent does not
// report is named while it is Ready, left out when it has been NotReady for long
// enough, and tainted until its agent reports again.
func TestASilentAgentIsNamedAndLeftOutWhenItsNodeIsDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.cfg.Settings.NotReadyFor = 300 * time.Millisecond
	for _, name := range []string{"worker-2", "worker-3"} {
		c.Node(name, false)
	}
	c.begin()
	c.until("all have reported", func(view) bool { return c.registryNode("worker").Status.NodeUID != "" })
	c.sim.set(func(s *simulator) { s.silent["worker"] = true })
	c.ask(settingsOf(c.upstreamB()))
	v := c.until("it is named", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionTransition).Message, "- worker:")
	})
	t.Log(v.condition(v1alpha1.ConditionTransition).Message)
	c.setReady("worker", corev1.ConditionUnknown)
	v = c.reaches(switchover.Direct, c.upstreamB())
	if message := v.condition(v1alpha1.ConditionReady).Message; !strings.Contains(message, "worker") {
		t.Errorf("Ready does not name the node that was left out: %q", message)
	}
	if !c.tainted("worker") || c.tainted("worker-2") {
		t.Error("the node that was left out is not the one that is tainted")
	}
	c.sim.set(func(s *simulator) { delete(s.silent, "worker") })
	c.setReady("worker", corev1.ConditionTrue)
	c.eventually("it has caught up", func() bool { return !c.tainted("worker") })
	c.until("nothing is left to say", func(v view) bool {
		ready := v.condition(v1alpha1.ConditionReady)
		return ready.Status == metav1.ConditionTrue && ready.Message == "" && len(v.doc.Excluded) == 0
	})
}

func (c *testbed) setReady(name string, status corev1.ConditionStatus) {
	c.t.Helper()
	var n corev1.Node
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		c.t.Fatal(err)
	}
	n.Status.Conditions[0].Status = status
	if err := c.Status().Update(c.t.Context(), &n); err != nil {
		c.t.Fatal(err)
	}
}

func (c *testbed) tainted(name string) bool {
	c.t.Helper()
	n := c.nodeNamed(name)
	return cluster.HasTaint(&n)
}

func (c *testbed) joins(name string) bool {
	c.t.Helper()
	n := c.nodeNamed(name)
	return cluster.IsJoining(&n)
}

func (c *testbed) nodeNamed(name string) corev1.Node {
	c.t.Helper()
	var n corev1.Node
	if err := c.Get(c.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// TestOwnedObjectsAreHealed: our objects come back when somebody deletes or changes
// them.
func TestOwnedObjectsAreHealed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	c.switchTo(c.upstreamA())
	for _, name := range []string{v1alpha1.SecretLayout, v1alpha1.SecretProxy, v1alpha1.SecretRegistry, v1alpha1.SecretPKI, state.UserSecretPrefix + state.UserClient} {
		before := c.secret(name)
		if err := c.Delete(t.Context(), before); err != nil {
			t.Fatal(err)
		}
		c.eventually(name+" is back", func() bool {
			after := c.secret(name)
			return after != nil && cluster.SameData(before.Data, after.Data)
		})
	}
	registry := c.secret(v1alpha1.SecretRegistry)
	registry.Data["address"] = []byte("registry.example.com")
	if err := c.Update(t.Context(), registry); err != nil {
		t.Fatal(err)
	}
	c.eventually("deckhouse-registry is healed", func() bool {
		return string(c.secret(v1alpha1.SecretRegistry).Data["address"]) == layout.Fixed().Host
	})
	c.reaches(switchover.Direct, c.upstreamA())
}

// TestNothingIsMadeOfWhatTellsNothing: if the state is lost and the layout cannot be
// read, or the state is of a newer version, users are told and nothing is removed.
func TestNothingIsMadeOfWhatTellsNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	stop := c.begin()
	c.switchTo(c.upstreamA())
	stop()
	stored, published := c.secret(v1alpha1.SecretState), c.secret(v1alpha1.SecretLayout)
	for told, damage := range map[string]func(){
		"cannot be read": func() {
			damaged := c.secret(v1alpha1.SecretLayout)
			damaged.Data[v1alpha1.KeyLayout] = []byte("- no layout")
			if err := errors.Join(c.Update(t.Context(), damaged), client.IgnoreNotFound(c.Delete(t.Context(), c.secret(v1alpha1.SecretState)))); err != nil {
				t.Fatal(err)
			}
		},
		"does not know": func() {
			unknown := c.secret(v1alpha1.SecretState)
			unknown.Data[state.KeyState] = []byte(strings.NewReplacer("mode: Direct", "mode: Pretend", "proxy: true", "proxy: true\n  repoint: true").Replace(string(unknown.Data[state.KeyState])))
			if err := c.Update(t.Context(), unknown); err != nil {
				t.Fatal(err)
			}
		},
		"newer version": func() {
			newer := c.secret(v1alpha1.SecretState)
			newer.Data[state.KeyState] = []byte("schema: 99\ntarget: {mode: Bundle}\n")
			if err := c.Update(t.Context(), newer); err != nil {
				t.Fatal(err)
			}
		},
	} {
		damage()
		before, written := c.secret(v1alpha1.SecretLayout).ResourceVersion, c.written()
		stop := c.start(nil)
		c.eventually("it is told that "+told, func() bool {
			var m deckhousev1alpha1.Module
			return c.Get(t.Context(), client.ObjectKey{Name: v1alpha1.ModuleName}, &m) == nil && strings.Contains(fmt.Sprint(m.Status), told)
		})
		stop()
		if c.gone(&appsv1.Deployment{}, v1alpha1.DeploymentProxy) || c.gone(&corev1.Service{}, v1alpha1.ServiceRegistry) || c.gone(&corev1.Secret{}, v1alpha1.SecretProxy) {
			t.Error("the proxy was taken away")
		}
		if c.secret(v1alpha1.SecretLayout).ResourceVersion != before {
			t.Error("the layout was written")
		}
		if after := c.written(); !maps.Equal(after, written) {
			t.Errorf("it is told that %s, and of %v was made %v", told, written, after)
		}
		c.restore(stored, published)
	}
}

// written are the versions of all that a pass may write, but for the state.
func (c *testbed) written() map[string]string {
	c.t.Helper()
	versions := map[string]string{}
	for _, list := range []client.ObjectList{&corev1.SecretList{}, &corev1.ConfigMapList{}, &appsv1.DeploymentList{}, &appsv1.DaemonSetList{}} {
		if err := c.List(c.t.Context(), list); err != nil {
			c.t.Fatal(err)
		}
		for _, o := range itemsOf(c.t, list) {
			if o.GetName() != v1alpha1.SecretState && o.GetNamespace() != "kube-system" {
				versions[fmt.Sprintf("%T %s", o, cluster.Key(o))] = fmt.Sprint(o.GetUID(), o.GetGeneration(), o.GetLabels(), o.GetAnnotations(), dataOf(o))
			}
		}
	}
	return versions
}

func dataOf(o client.Object) map[string][]byte {
	if s, ok := o.(*corev1.Secret); ok {
		return s.Data
	}
	return nil
}

// restore makes Secrets as they were.
func (c *testbed) restore(secrets ...*corev1.Secret) {
	c.t.Helper()
	for _, was := range secrets {
		fresh := was.DeepCopy()
		fresh.ResourceVersion, fresh.UID = "", ""
		if err := client.IgnoreNotFound(c.Delete(c.t.Context(), fresh.DeepCopy())); err != nil {
			c.t.Fatal(err)
		}
		c.Make(fresh)
	}
}

// TestAnotherModulesObjectsAreLeftAlone: objects with our names but without our
// label belong to a platform with a registry module of its own.
func TestAnotherModulesObjectsAreLeftAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretState}, Data: map[string][]byte{"mode": []byte("Direct")}}
	c.Make(theirs)
	c.ask(settingsOf(c.upstreamB()))
	c.start(nil)
	installation.Pause(time.Second) // that nothing happens can only be waited for
	if now := c.secret(v1alpha1.SecretState); now.ResourceVersion != theirs.ResourceVersion {
		t.Error("somebody else's Secret was written")
	}
	if c.secret(v1alpha1.SecretBootstrap) != nil {
		t.Error("something was made beside somebody else's objects")
	}
}
