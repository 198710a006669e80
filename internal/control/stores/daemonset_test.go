package stores

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/pod"
)

// noStaticPods has the agents of nodes say that their kubelets take no static pods.
func (f *fleet) noStaticPods(names ...string) {
	for _, name := range names {
		f.report(name, func(s *v1alpha1.StoreStatus) { s.DaemonSet = true })
	}
}

// set is a DaemonSet of a store in the snapshot.
func (f *fleet) set(name, node string) *appsv1.DaemonSet {
	f.t.Helper()
	set, err := daemonSet(name, node, &v1alpha1.StoreSpec{Image: "a", Version: "v0", Port: 5001, Path: "/a/b", Addresses: []string{"10.0.0.9"}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.there.Inventory.DaemonSets = append(f.there.Inventory.DaemonSets, *set)
	return &f.there.Inventory.DaemonSets[len(f.there.Inventory.DaemonSets)-1]
}

// TestWhoHearsOfADaemonSet: a node writes no static pod where a DaemonSet is to run its store,
// nor while one still does.
func TestWhoHearsOfADaemonSet(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(f *fleet)
		want   string
	}{
		"static pods everywhere": {func(*fleet) {}, ""},
		"one takes none":         {func(f *fleet) { f.noStaticPods("b") }, "b"},
		"all take none":          {func(f *fleet) { f.noStaticPods("a", "b", "c") }, "abc"},
		"one takes them now": {func(f *fleet) {
			f.noStaticPods("b")
			f.pass()
			f.set("registry-nodeservices-4", "b")
			f.report("b", func(s *v1alpha1.StoreStatus) { s.DaemonSet = false })
		}, "b"},
		"and its DaemonSet is gone": {func(f *fleet) {
			f.noStaticPods("b")
			f.pass()
			f.report("b", func(s *v1alpha1.StoreStatus) { s.DaemonSet = false })
		}, ""},
		"it was started anew":   {func(f *fleet) { f.noStaticPods("b"); f.pass(); f.node("b").Status.NodeInfo.BootID = "next" }, "b"},
		"a static one was":      {func(f *fleet) { f.pass(); f.noStaticPods("b"); f.node("b").Status.NodeInfo.BootID = "next" }, ""},
		"a DaemonSet of others": {func(f *fleet) { f.set("registry-nodeservices-4", "b").Labels = nil }, ""},
		"one of another name":   {func(f *fleet) { f.set("registry-nodeservices-10", "b") }, ""},
		"one elsewhere":         {func(f *fleet) { f.set("registry-nodeservices-4", "b").Namespace = "default" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := running(t)
			row.change(f)
			f.pass()
			var got []string
			for _, name := range []string{"a", "b", "c"} {
				if s := f.there.RegistryNodes[name].Spec.Store; s != nil && s.DaemonSet {
					got = append(got, name)
				}
			}
			if strings.Join(got, "") != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// found is that a node's store was found to need a pull secret.
func (f *fleet) found(node string) { f.there.RegistryNodes[node].Spec.Store.PullSecret = true }

// TestWhoNeedsAPullSecret: a node whose kubelet does not give the image that its agent runs to the static
// pod, and as long as it runs a store.
func TestWhoNeedsAPullSecret(t *testing.T) {
	t.Parallel()
	const pod = "registry-nodeservices-b"
	idle := func(f *fleet) { f.report("b", func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreWaiting }) }
	for name, row := range map[string]struct {
		pod    *excerpt.Pod
		change func(f *fleet)
		want   bool
	}{
		"it fails to pull":       {waitingPod(pod, "b", "b", "ImagePullBackOff"), idle, true},
		"another pod does":       {waitingPod(pod, "a", "a", "ImagePullBackOff"), idle, false},
		"it fails otherwise":     {waitingPod(pod, "b", "b", "CrashLoopBackOff"), idle, false},
		"a DaemonSet's does":     {waitingPod("x", "b", "registry-nodeservices-1", "ImagePullBackOff"), idle, false},
		"somebody else's does":   {waitingPod(pod, "b", "some", "ImagePullBackOff"), idle, false},
		"it serves all the same": {waitingPod(pod, "b", "b", "ImagePullBackOff"), func(*fleet) {}, false},
		"it is after the switch": {waitingPod(pod, "b", "b", "ImagePullBackOff"), func(f *fleet) { idle(f); f.wish.Switching = false }, false},
		"it is of before":        {waitingPod(pod, "b", "b", "ImagePullBackOff"), func(f *fleet) { idle(f); f.wish.Images["b"] = "r.example.com/registry:next" }, false},
		"the image is not there": {waitingPod(pod, "b", "b", "ImagePullBackOff"), func(f *fleet) { idle(f); f.wish.Images["b"] = "" }, false},
		"it was found before": {nil, func(f *fleet) {
			idle(f)
			f.there.Inventory.Pods = []*excerpt.Pod{waitingPod(pod, "b", "b", "ErrImagePull")}
			f.pass()
			f.there.Inventory.Pods = nil
			f.wish.Switching = false
		}, true},
		"and a DaemonSet runs it": {nil, func(f *fleet) { f.found("b"); f.report("b", func(s *v1alpha1.StoreStatus) { s.DaemonSet = true }) }, true},
		"and a static pod does":   {nil, func(f *fleet) { f.found("b") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := running(t)
			f.wish.Switching = true
			if row.pod != nil {
				f.there.Inventory.Pods = []*excerpt.Pod{row.pod}
			}
			row.change(f)
			f.pass()
			for _, name := range []string{"a", "b", "c"} {
				if got := f.there.RegistryNodes[name].Spec.Store.PullSecret; got != (row.want && name == "b") {
					t.Errorf("%s: %t", name, got)
				}
			}
		})
	}
}

// TestOfTwoOneStays: of two DaemonSets for one node each pass keeps the same one, in whatever order
// it sees them, and one that is not being deleted: else both would go. One that somebody has
// changed, so that it is for all nodes, stays for none.
func TestOfTwoOneStays(t *testing.T) {
	t.Parallel()
	f := running(t)
	f.set("registry-nodeservices-4", "b")
	f.set("registry-nodeservices-7", "c").Spec.Template.Spec.Affinity = nil
	f.set("registry-nodeservices-2", "b")
	sees := func(want, surplus string) {
		t.Helper()
		for range 2 {
			slices.Reverse(f.there.Inventory.DaemonSets)
			sets := daemonSetsIn(f.there)
			var names []string
			for _, set := range sets.surplus {
				names = append(names, strings.TrimPrefix(set.Name, "registry-nodeservices-"))
			}
			slices.Sort(names)
			if got := sets.byNode["b"].Name; got != "registry-nodeservices-"+want || strings.Join(names, "") != surplus || len(sets.byNode) != 1 || len(sets.free) != 6 {
				t.Errorf("b has %s, and there are %q too; %q are free", got, names, sets.free)
			}
		}
	}
	sees("2", "47")
	for i := range f.there.Inventory.DaemonSets {
		if set := &f.there.Inventory.DaemonSets[i]; set.Name == "registry-nodeservices-2" {
			set.DeletionTimestamp = &metav1.Time{Time: today()}
		}
	}
	sees("4", "27")
}

// TestNoNameIsLeft: who waits for a name is told.
func TestNoNameIsLeft(t *testing.T) {
	t.Parallel()
	f := running(t)
	f.noStaticPods("b")
	f.pass()
	f.report("b", func(s *v1alpha1.StoreStatus) { s.State, s.Message = v1alpha1.StoreWaiting, "it waits for a DaemonSet" })
	for _, name := range v1alpha1.DaemonSetsOfStores() {
		f.set(name, "b").Labels = nil // they are others'
	}
	k := New(nil)
	specs, problems := f.wish.Specs(f.there, today())
	k.problems = problems
	refused := k.run(t.Context(), f.there, f.wish, specs)
	if seen := k.Seen(f.there, f.wish, today()); len(refused) > 0 || !strings.HasPrefix(seen.Message, "b: no name is left for its DaemonSet") {
		t.Errorf("%v, %q", refused, seen.Message)
	}
}

// TestTheSamePod: a DaemonSet runs what a node would write, but for where it is, and whose.
func TestTheSamePod(t *testing.T) {
	t.Parallel()
	f := running(t)
	spec := f.there.RegistryNodes["a"].Spec.Store
	set, err := daemonSet("registry-nodeservices-1", "a", spec)
	if err != nil {
		t.Fatal(err)
	}
	store, err := pod.StoreOf(spec)
	if err != nil {
		t.Fatal(err)
	}
	store.BesideEtcd = true // of which a node knows more
	want := store.Template()
	want.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry-bootstrap"}} // which a static pod cannot have
	got := set.Spec.Template.DeepCopy()
	if got.Spec.Affinity = nil; !equality.Semantic.DeepEqual(got.Spec, want.Spec) {
		t.Errorf("%+v\nwant %+v", got.Spec, want.Spec)
	}
	if delete(got.Labels, v1alpha1.LabelDaemonSet); fmt.Sprint(got.ObjectMeta) != fmt.Sprint(want.ObjectMeta) {
		t.Errorf("%+v\nwant %+v", got.ObjectMeta, want.ObjectMeta)
	}
	if nodeOf(set) != "a" || !cluster.IsOurs(set) || set.Spec.Template.Labels[v1alpha1.LabelManagedBy] != "" {
		t.Errorf("%s, %v", nodeOf(set), set.Labels)
	}
	if _, err := daemonSet("registry-nodeservices-1", "a", &v1alpha1.StoreSpec{}); err == nil {
		t.Error("of nothing")
	}
}

// sets are the DaemonSets of stores on the API server, by name.
func (w *world) sets() map[string]*appsv1.DaemonSet {
	w.t.Helper()
	w.read()
	sets := map[string]*appsv1.DaemonSet{}
	for i := range w.there.Inventory.DaemonSets {
		sets[w.there.Inventory.DaemonSets[i].Name] = &w.there.Inventory.DaemonSets[i]
	}
	return sets
}

// whose says which of them are for which node: "1a 2b".
func (w *world) whose() string {
	w.t.Helper()
	var all []string
	for name, set := range w.sets() {
		all = append(all, strings.TrimPrefix(name, "registry-nodeservices-")+nodeOf(set))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// ended is what the garbage collector does when the pod of one has ended.
func (w *world) ended(name string) {
	w.t.Helper()
	set := w.sets()[name]
	if set == nil || !slices.Contains(set.Finalizers, metav1.FinalizerDeleteDependents) {
		w.t.Fatalf("%s is not deleted in the foreground: %+v", name, set)
	}
	base := set.DeepCopy()
	set.Finalizers = nil
	w.must(w.api.Client().Patch(w.ctx, set, client.MergeFrom(base)))
}

// TestDaemonSetsOnARealServer is the life of stores where kubelets take no static pods: one
// after the other, another version of one alone, a node that takes static pods now, and the end,
// with the rights of the controller. Not in parallel: a cluster has one set of stores.
func TestDaemonSetsOnARealServer(t *testing.T) {
	w := newWorld(t)
	w.apply()
	w.say(func() {
		for _, name := range []string{"a", "b", "c"} {
			w.request(name)
		}
		w.noStaticPods("a", "b")
	})
	w.apply()
	if w.approved() != "a" || w.whose() != "" {
		t.Fatalf("%q may run, and before nodes have heard of them there are %q", w.approved(), w.whose())
	}
	if w.apply(); w.whose() != "1a" {
		t.Fatalf("there are %q, want that of a", w.whose())
	}
	w.admits(w.sets()["registry-nodeservices-1"])
	for _, name := range []string{"a", "b", "c"} {
		w.say(func() { w.serve(name) })
		w.apply()
		w.apply()
	}
	before := len(w.proxy.Writes())
	if seen := w.apply(); seen.Ready != 3 || w.whose() != "1a 2b" || len(w.proxy.Writes()) != before {
		t.Fatalf("%+v, %q; what is as it should be is written: %q", seen, w.whose(), w.proxy.Writes()[before:])
	}

	// Another version: of a alone, until a serves with it.
	first := w.sets()
	w.wish.Pod.Quota = 5 << 30
	w.apply()
	w.apply()
	args := func(name string) string { return fmt.Sprint(w.sets()[name].Spec.Template.Spec.Containers[0].Args) }
	if !strings.Contains(args("registry-nodeservices-1"), "--quota=5368709120") || w.sets()["registry-nodeservices-2"].Generation != first["registry-nodeservices-2"].Generation {
		t.Fatalf("approved is %q; the one runs %s, the other %s", w.approved(), args("registry-nodeservices-1"), args("registry-nodeservices-2"))
	}
	for _, name := range []string{"a", "b", "c"} {
		w.say(func() { w.serve(name) })
		w.apply()
		w.apply()
	}
	if !strings.Contains(args("registry-nodeservices-2"), "--quota=5368709120") || w.sets()["registry-nodeservices-1"].UID != first["registry-nodeservices-1"].UID {
		t.Fatalf("%s", args("registry-nodeservices-2"))
	}

	// a takes static pods now: it hears of it when the pod of its DaemonSet is gone.
	w.say(func() { w.report("a", func(s *v1alpha1.StoreStatus) { s.DaemonSet = false }) })
	w.apply()
	if w.apply(); !w.there.RegistryNodes["a"].Spec.Store.DaemonSet {
		t.Error("two stores may run on one port")
	}
	w.ended("registry-nodeservices-1")
	if w.apply(); w.there.RegistryNodes["a"].Spec.Store.DaemonSet || w.whose() != "2b" {
		t.Errorf("it never may write its own: %+v, %q", w.there.RegistryNodes["a"].Spec.Store, w.whose())
	}

	// The end: the process of b, then its files.
	w.wish = Wish{None: true}
	w.apply()
	w.apply()
	if b := w.there.RegistryNodes["b"].Spec.Store; b == nil || w.there.RegistryNodes["a"].Spec.Store != nil {
		t.Errorf("the files of b go before its process: %+v", b)
	}
	w.ended("registry-nodeservices-2")
	w.apply()
	if w.there.RegistryNodes["b"].Spec.Store != nil || w.whose() != "" {
		t.Errorf("it is left: %+v, %q", w.there.RegistryNodes["b"].Spec.Store, w.whose())
	}
	w.say(func() {
		for _, rn := range w.there.RegistryNodes {
			rn.Status.Store = nil
		}
	})
	w.apply()
	if seen := w.apply(); seen.Exists || len(w.there.Secrets) > 0 {
		t.Errorf("it is left: %+v", seen)
	}
}

// TestSurplusDaemonSets: what a cache that was behind has led to is taken away, and of a DaemonSet
// that is gone nothing is made: its node may run a static pod by now. Not in parallel, as above.
func TestSurplusDaemonSets(t *testing.T) {
	w := newWorld(t)
	w.apply()
	w.say(func() { w.request("a"); w.noStaticPods("a") })
	w.apply()
	w.apply()
	spec := w.there.RegistryNodes["a"].Spec.Store.DeepCopy()
	for _, name := range []string{"registry-nodeservices-3", "registry-nodeservices-5"} {
		set, err := daemonSet(name, "a", spec)
		w.must(err)
		w.must(w.controller.Create(w.ctx, set, cluster.Owner))
		base := set.DeepCopy()
		if name == "registry-nodeservices-5" {
			set.Spec.Template.Spec.Affinity = nil
			w.must(w.api.Client().Patch(w.ctx, set, client.MergeFrom(base)))
		}
		base = set.DeepCopy()
		set.Status.ObservedGeneration = set.Generation
		w.must(w.api.Client().Status().Patch(w.ctx, set, client.MergeFrom(base)))
	}
	w.apply()
	for _, name := range []string{"registry-nodeservices-3", "registry-nodeservices-5"} {
		if set := w.sets()[name]; cluster.WorkloadOf(set).Unobserved {
			t.Errorf("%s, which is deleted, would hold a switch up for as long as its node is away: %+v", name, set.ObjectMeta)
		}
	}
	if first := w.sets()["registry-nodeservices-1"]; first == nil || first.DeletionTimestamp != nil {
		t.Errorf("the one of a: %+v", first)
	}
	w.ended("registry-nodeservices-3")
	w.ended("registry-nodeservices-5")
	if w.apply(); w.whose() != "1a" {
		t.Errorf("there are %q", w.whose())
	}

	have := w.sets()["registry-nodeservices-1"]
	w.must(w.api.Client().Delete(w.ctx, have.DeepCopy(), client.PropagationPolicy(metav1.DeletePropagationBackground)))
	spec.Quota++
	k := New(&cluster.Client{Client: w.controller, Live: w.controller, Log: slog.New(slog.DiscardHandler)})
	if err := k.put(w.ctx, have.Name, "a", have, spec); err != nil || w.whose() != "" {
		t.Errorf("%q is there again: %v", w.whose(), err)
	}
	w.wish = Wish{None: true}
	w.say(func() { w.there.RegistryNodes["a"].Status.Store = nil })
	w.apply()
	w.apply()
}

// admits has the API server look at the pod of a DaemonSet, as it would when one is made: the
// pod security level of the namespace is that of the agents.
func (w *world) admits(set *appsv1.DaemonSet) {
	w.t.Helper()
	one := &corev1.Pod{ObjectMeta: cluster.HereMeta("one"), Spec: set.Spec.Template.Spec}
	one.Labels, one.Annotations = set.Spec.Template.Labels, set.Spec.Template.Annotations
	if one.Spec.PriorityClassName == "" || len(one.Spec.ImagePullSecrets) != 1 {
		w.t.Errorf("%+v", one.Spec)
	}
	if err := w.api.Client().Create(w.ctx, one, client.DryRunAll); err != nil {
		w.t.Errorf("no such pod is admitted: %v", err)
	}
}
