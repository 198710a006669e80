package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/control/uninstall"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
)

// output is what an uninstallation writes for users.
type output struct {
	mu   sync.Mutex
	b    strings.Builder
	then map[string]func() // each is called once, when its text has been written
}

func (w *output) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.b.Write(p)
	for text, do := range w.then {
		if strings.Contains(w.b.String(), text) {
			delete(w.then, text)
			do()
		}
	}
	return n, err
}

func (w *output) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// uninstall runs an uninstallation with the rights that the chart gives it, and
// returns what it wrote. Change may change its configuration.
func (c *testbed) uninstall(ctx context.Context, change func(*uninstall.Config)) (string, error) {
	c.t.Helper()
	return c.uninstallTo(ctx, &output{}, change)
}

// uninstallTo is the same with an output.
func (c *testbed) uninstallTo(ctx context.Context, told *output, change func(*uninstall.Config)) (string, error) {
	c.t.Helper()
	cfg := uninstall.Config{
		REST:    c.api.As(c.t, apiserver.Process{ServiceAccount: "registry-uninstall", Node: "master"}),
		Timeout: timeout, AgentTimeout: timeout,
	}
	if change != nil {
		change(&cfg)
	}
	err := uninstall.Run(ctx, cfg, told)
	c.t.Logf("uninstall: %v\n%s", err, told.String())
	return told.String(), err
}

// stopsWhenScaled calls stop when the controller's Deployment is scaled to 0, and
// removes the agents' pods when their DaemonSet is gone.
func (c *testbed) stopsWhenScaled(stop func()) {
	installation.Background(c.t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			installation.Pause(20 * time.Millisecond)
			var d appsv1.Deployment
			if c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentController}, &d) == nil && cluster.Replicas(d.Spec.Replicas) == 0 {
				stop()
			}
			at := client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DaemonSetAgent}
			if c.Get(ctx, at, &appsv1.DaemonSet{}) != nil {
				_ = c.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(at.Namespace), client.MatchingLabels{"app": at.Name}, client.GracePeriodSeconds(0))
			}
		}
		return nil
	})
}

// TestUninstall: it is refused while the cluster needs the module. In Unmanaged it
// reverts nodes with the controller's help, and leaves nothing that is ours.
func TestUninstall(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.controllerDeployment()
	before := c.marks()
	stop := c.start(nil)
	c.stopsWhenScaled(stop)
	c.reaches(switchover.Unmanaged, c.upstreamA())
	c.switchTo(c.upstreamB())
	published := c.secret(v1alpha1.SecretLayout).ResourceVersion
	_, err := c.uninstall(t.Context(), nil)
	if !errors.Is(err, uninstall.ErrRefused) || !strings.Contains(err.Error(), "mode Direct. Set spec.settings.registry to `mode: Unmanaged` in ModuleConfig deckhouse") {
		t.Errorf("in Direct: %v", err)
	}
	if s := c.secret(v1alpha1.SecretLayout); s == nil || s.ResourceVersion != published {
		t.Error("a refusal touched the layout")
	}

	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, c.upstreamB())
	// One node is slow: users read what is waited for, the run ends before the node
	// is done, and the next run goes on.
	c.silence("worker")
	ctx, end := context.WithCancel(t.Context())
	told, err := c.uninstallTo(ctx, &output{then: map[string]func(){"1/2 node(s) ready. Waiting:\n- worker: ": end}}, nil)
	if end(); err == nil || !strings.Contains(told, "1/2 node(s) ready. Waiting:\n- worker: ") {
		t.Errorf("a slow node: %v\n%s", err, told)
	}
	if c.secret(v1alpha1.SecretState) == nil || c.daemonSet("d8-system", "registry-agent") == nil {
		t.Fatal("something was removed before nodes were back")
	}
	then := map[string]func(){
		"Waiting for nodes.": func() { c.sim.set(func(s *simulator) { delete(s.silent, "worker") }) },
		// A controller that ended in the middle leaves what stores served by, and the DaemonSet of
		// a node that was not reached.
		"Deployment d8-system/registry-controller is scaled to 0.": func() {
			stop()
			s := &corev1.Secret{ObjectMeta: cluster.HereMeta(v1alpha1.SecretStore)}
			s.Labels = map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}
			if err := c.Create(t.Context(), s); err != nil {
				t.Error(err)
			}
			set := c.daemonSet(v1alpha1.Namespace, v1alpha1.DaemonSetAgent).DeepCopy()
			set.ObjectMeta = cluster.HereMeta(v1alpha1.DaemonSetsOfStores()[2])
			set.Labels = s.Labels
			if err := c.Create(t.Context(), set); err != nil {
				t.Error(err)
			}
		},
	}
	if told, err = c.uninstallTo(t.Context(), &output{then: then}, nil); err != nil || !strings.Contains(told, "All nodes are back in the legacy containerd format.") {
		t.Fatalf("%v\n%s", err, told)
	}
	c.wantAsBefore(before)
	if _, err := c.uninstall(t.Context(), nil); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// controllerDeployment makes the controller's Deployment as the chart does.
func (c *testbed) controllerDeployment() *appsv1.Deployment {
	c.t.Helper()
	d := deployment(v1alpha1.Namespace, v1alpha1.DeploymentController, layout.NameOf(c.upstreamA()).Reference(c.cfg.Image))
	d.Spec.Template.Spec.Containers[0].Args = []string{"--image=" + c.cfg.Image}
	c.Make(d)
	return d
}

// TestUninstallNamesWhoNeedsTheLayout: it is refused while a pod of the platform has
// an image under a name that only the layout serves. The pod is named. No ReplicaSet
// or revision that is kept for a rollback refuses it, and no tenant's pod.
func TestUninstallNamesWhoNeedsTheLayout(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.controllerDeployment()
	c.begin()
	c.switchTo(c.upstreamB())
	holder := func(namespace string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "holder"},
			Spec:       corev1.PodSpec{NodeName: "worker", Containers: []corev1.Container{{Name: "c", Image: layout.Fixed().Reference(":v1")}}},
		}
	}
	ours, theirs := holder("d8-monitoring"), holder("mine")
	c.Make(ours)
	c.Make(theirs)
	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, c.upstreamB())
	_, err := c.uninstall(t.Context(), nil)
	if !errors.Is(err, uninstall.ErrRefused) || !strings.Contains(err.Error(), "- registry.d8-system.svc:5001/system/deckhouse: Pod d8-monitoring/holder, not the platform's: Pod mine/holder\n") {
		t.Errorf("%v", err)
	}
	c.eventually("the layout is there", func() bool { return c.secret(v1alpha1.SecretLayout) != nil })
	if err := c.Delete(t.Context(), ours, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	told, err := c.uninstall(t.Context(), nil)
	if err != nil {
		t.Errorf("a tenant's Pod refuses it: %v\n%s", err, told)
	}
}

// TestUninstallHeedsASpecUntilTheControllerHasEnded: users ask for another mode while
// the controller is being stopped, and it still sees that. Agents stay, and the
// controller is started again.
func TestUninstallHeedsASpecUntilTheControllerHasEnded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.controllerDeployment()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "registry-controller-1", Labels: map[string]string{"app": v1alpha1.DeploymentController}, Finalizers: []string{"test/ends"}},
		Spec:       corev1.PodSpec{NodeName: "master", Containers: []corev1.Container{{Name: "controller", Image: "x.example/controller:1"}}},
	}
	c.Make(pod)
	stop := c.begin()
	c.stopsWhenScaled(sync.OnceFunc(func() {
		c.ask(settingsOf(c.upstreamB()))
		c.until("the switch has begun", func(v view) bool { return v.doc.Target.Mode == switchover.Direct })
		stop()
		if err := c.Patch(t.Context(), pod, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))); err != nil {
			t.Error(err)
		}
		if err := client.IgnoreNotFound(c.Delete(t.Context(), pod, client.GracePeriodSeconds(0))); err != nil {
			t.Error(err)
		}
	}))
	_, err := c.uninstall(t.Context(), nil)
	if !errors.Is(err, uninstall.ErrRefused) || !strings.Contains(err.Error(), "mode Direct") {
		t.Errorf("%v", err)
	}
	var d appsv1.Deployment
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentController}, &d); err != nil || cluster.Replicas(d.Spec.Replicas) != 1 {
		t.Errorf("the controller has %v pods: %v", d.Spec.Replicas, err)
	}
	if c.daemonSet(v1alpha1.Namespace, v1alpha1.DaemonSetAgent) == nil || c.secret(v1alpha1.SecretState) == nil {
		t.Error("something was removed")
	}
}

func (c *testbed) silence(name string) {
	c.sim.set(func(s *simulator) { s.silent[name] = true })
}

// marks are all objects that there are, by kind and name, each with what others may write
// on it: labels, annotations and taints.
func (c *testbed) marks() map[string]string {
	c.t.Helper()
	all := map[string]string{}
	c.everyObject(func(o *unstructured.Unstructured) {
		taints, _, err := unstructured.NestedSlice(o.Object, "spec", "taints")
		if err != nil {
			c.t.Fatal(err)
		}
		all[o.GetKind()+" "+cluster.Key(o)] = fmt.Sprint(o.GetLabels(), o.GetAnnotations(), taints)
	})
	return all
}

// wantAsBefore fails if an uninstallation leaves what was not there before, or a mark on
// a Node or a Namespace. Workloads keep theirs, which say who changed their images.
func (c *testbed) wantAsBefore(before map[string]string) {
	c.t.Helper()
	for name, marks := range c.marks() {
		kind, key, _ := strings.Cut(name, " ")
		was, there := before[name]
		switch {
		case kind == "Event", kind == "Pod", kind == "ModuleConfig": // told to users, the simulator's, and a user's
		case strings.HasSuffix(key, "/"+v1alpha1.SecretRegistry): // pods of the test's platform go on pulling with them
		case !there:
			c.t.Errorf("%s is left: %s", name, marks)
		case (kind == "Node" || kind == "Namespace") && marks != was:
			c.t.Errorf("%s has %s, before %s", name, marks, was)
		}
	}
}
