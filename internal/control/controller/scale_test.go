package controller

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/fleet"
	"github.com/d8-registry/registry/test/harness/installation"
)

// mostMemory is what the process of the controller may take in a cluster of that many
// nodes, in MiB: 300 of 5,000 nodes and 150,000 Pods, and 400 where a second live list is
// read. A part of it is there without a node.
func mostMemory(nodes int, step string) int {
	if step == v1alpha1.ConditionFinal {
		return 100 + 300*nodes/5000
	}
	return 70 + 230*nodes/5000
}

// scaleNodes is how many nodes TestScale has: SCALE, or as many as every run has the time
// for. Of 1,000, with another lane beside it on two cores, the API server was too slow for
// the lease of the controller.
func scaleNodes(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv("SCALE")
	if text == "" {
		return 300
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestScale: a switch to Direct of many nodes with 30 Pods each, on a real API server,
// by the program that ships and with simulated agents. In a generation the controller
// writes each Node at most once, and each agent its report; a burst of reports costs a
// few passes. make scale runs it with more nodes too, and prints what it took.
//
// It runs before all others of its package: beside them its API server does not get to renew
// the lease of the controller in time.
func TestScale(t *testing.T) {
	c := newClusterOn(t, servers.TakeNew(t))
	n := scaleNodes(t)
	begun := time.Now()
	names := c.fleet(n)
	t.Logf("the cluster is made in %.0f s", time.Since(begun).Seconds())
	agents := c.startAgents(names)
	p := c.startProcess()
	before := taken{at: time.Now()}
	row := func(what string) {
		now := p.takes()
		t.Logf("| %d | %s | %.1f s | %d passes | %.1f CPU s | %d MiB | %.1f MiB read | %d writes of Nodes |", n, what, now.at.Sub(before.at).Seconds(),
			now.passes-before.passes, (now.cpu - before.cpu).Seconds(), now.peak, float64(now.served-before.served)/(1<<20), now.writes-before.writes)
		if passes, may := now.passes-before.passes, 5+4*int(now.at.Sub(before.at).Seconds()); passes > may {
			t.Errorf("%s: %d passes, more than %d: what comes at once is not gathered", what, passes, may)
		}
		if most := mostMemory(n, what); now.peak > most {
			t.Errorf("%s: the controller took %d MiB, more than %d", what, now.peak, most)
		}
		p.profile(what)
		before = now
	}
	within := timeout + time.Duration(n)*100*time.Millisecond
	c.waits(within, "all are known", func(v view) bool { return v.ready(switchover.Unmanaged) && c.marked(n, "") })
	row("it starts, and meets all agents")
	installation.Pause(5 * time.Second)
	row("5 s in which nothing happens")
	begun = time.Now()
	agents.gate.Lock()
	agents.ready.Store(0)
	c.Ask(installation.Direct(c.upstreamB()))
	for _, name := range switchover.Plan(switchover.Direct) {
		if name == v1alpha1.ConditionTransition {
			c.waits(within, "all agents see it", func(view) bool { return int(agents.ready.Load()) >= len(names) })
			row("until all agents have the union")
			agents.gate.Unlock()
		}
		c.waits(within, name, func(v view) bool {
			return v.target == string(switchover.Direct) && v.condition(name).Status == metav1.ConditionTrue
		})
		row(name)
	}
	c.waits(within, "all Nodes show it", func(v view) bool { return v.ready(switchover.Direct) && c.marked(n, c.layout().Version()) })
	row("until every Node shows it")
	c.sums(n, time.Since(begun), p, agents)
}

// sums says what it took in all, and checks it.
func (c *testbed) sums(n int, took time.Duration, p *process, agents *fleetAgents) {
	c.t.Helper()
	nodes, most := p.counted.of("/api/v1/nodes/", "")
	const rns = "/apis/registry.deckhouse.io/v1alpha1/registrynodes/"
	changed, _ := p.counted.of(rns, "")
	reports, mostReports := agents.counted.of(rns, "/status")
	generations := int(c.layout().Generation)
	c.t.Logf("%d nodes: %.1f s, %d generations; the controller wrote Nodes %d times, one at most %d times, RegistryNodes that were there %d times; agents reported %d times, one at most %d times, and were served %d MiB; the API server was too busy for %d writes of the controller and %d of agents",
		n, took.Seconds(), generations, nodes, most, changed, reports, mostReports, agents.counted.bytes.Load()>>20, p.counted.busy.Load(), agents.counted.busy.Load())
	if most > generations+1 { // and once the label, when the agent came
		c.t.Errorf("a Node was written %d times in %d generations", most, generations)
	}
	if mostReports > generations+1 {
		c.t.Errorf("an agent reported %d times in %d generations", mostReports, generations)
	}
	if changed > 0 {
		c.t.Errorf("RegistryNodes were written %d times", changed)
	}
	if renewed, _ := p.counted.of("/apis/coordination.k8s.io/v1/namespaces/"+v1alpha1.Namespace+"/leases/", ""); renewed == 0 {
		c.t.Error("the controller leads without the lease")
	}
}

// fleet makes a cluster of that many nodes beside those of the platform. What the
// generated objects call the platform's is another team's here, on the platform's
// name: no kubelets are simulated that would replace its 60,000 Pods.
func (c *testbed) fleet(n int) (nodes []string) {
	c.t.Helper()
	ctx := c.t.Context()
	c.sim.set(func(s *simulator) { s.paused = true })
	if err := c.DeleteAllOf(ctx, &appsv1.DaemonSet{}, client.InNamespace("d8-monitoring")); err != nil {
		c.t.Fatal(err)
	}
	c.simulateFew(n)
	nodes = []string{"master", "worker"}
	namespaces := map[string]bool{}
	image := layout.NameOf(c.upstreamA()).Reference("@" + c.digest("alpha"))
	var batch []client.Object
	fleet.Large(n, 0, func(o client.Object) {
		switch o := o.(type) {
		case *v1alpha1.RegistryNode:
			return // the controller's to make
		case *corev1.Node:
			nodes = append(nodes, o.Name)
			delete(o.Annotations, v1alpha1.AnnotationVersion)
			delete(o.Labels, v1alpha1.LabelContainerdConfig)
			delete(o.Labels, cluster.LabelControlPlane) // one proxy is simulated
		case *corev1.Pod:
			putOn(&o.Spec, image)
		case *appsv1.DaemonSet:
			putOn(&o.Spec.Template.Spec, image)
		}
		if ns := o.GetNamespace(); ns != "" && !namespaces[ns] {
			namespaces[ns] = true
			c.Namespace(ns, nil)
		}
		if batch = append(batch, o); len(batch) >= 1000 {
			c.store(batch)
			batch = nil
		}
	})
	c.store(batch)
	return nodes
}

func (c *testbed) store(objects []client.Object) {
	c.t.Helper()
	if err := c.api.Store(c.t.Context(), objects); err != nil {
		c.t.Fatal(err)
	}
}

// putOn replaces the images of the generated platform.
func putOn(spec *corev1.PodSpec, image string) {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			if strings.HasPrefix(containers[i].Image, fleet.Old().Host+"/") {
				containers[i].Image = image
			}
		}
	}
}

// simulateFew is the simulator for a cluster that is too large for it: only what the
// switch waits for is looked at.
func (c *testbed) simulateFew(n int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ; ctx.Err() == nil; installation.Pause(50 * time.Millisecond) {
			err := errors.Join(
				c.sim.deployments(ctx, client.InNamespace(v1alpha1.Namespace)), c.sim.deployments(ctx, client.InNamespace("d8-monitoring")),
				c.sim.gateway(ctx), c.rollOut(ctx, int32(n+2)))
			if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
				c.t.Logf("simulator: %v", err)
			}
		}
	}()
	c.t.Cleanup(func() { cancel(); <-done })
}

// rollOut says that the agents run everywhere.
func (c *testbed) rollOut(ctx context.Context, n int32) error {
	var d appsv1.DaemonSet
	if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.DaemonSetAgent}, &d); err != nil {
		return err
	}
	want := appsv1.DaemonSetStatus{ObservedGeneration: d.Generation, DesiredNumberScheduled: n, CurrentNumberScheduled: n, UpdatedNumberScheduled: n, NumberAvailable: n, NumberReady: n}
	if d.Status.ObservedGeneration == want.ObservedGeneration && d.Status.NumberAvailable == n {
		return nil
	}
	d.Status = want
	return c.Status().Update(ctx, &d)
}

// marked reports whether more than that many Nodes have the label of the preflight and
// show a version.
func (c *testbed) marked(n int, version string) bool {
	c.t.Helper()
	installation.Pause(time.Second) // a list of thousands is much to ask for
	nodes := metav1.PartialObjectMetadataList{}
	nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
	if err := c.List(c.t.Context(), &nodes); err != nil {
		c.t.Fatal(err)
	}
	for i := range nodes.Items {
		o := &nodes.Items[i]
		if o.Labels[v1alpha1.LabelContainerdConfig] == "" || o.Annotations[v1alpha1.AnnotationVersion] != version {
			return false
		}
	}
	return len(nodes.Items) > n
}

// waits is until with a time of its own.
func (c *testbed) waits(within time.Duration, what string, ok func(view) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(within); ; installation.Pause(50 * time.Millisecond) {
		v := c.state()
		if ok(v) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within %v\n%v", what, within, v)
		}
	}
}
