package stores

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// waitingPod is a pod of a store, a static one or of a DaemonSet, of which the kubelet says why it waits.
func waitingPod(name, node, owner, reason string) *excerpt.Pod {
	of := metav1.OwnerReference{Kind: "DaemonSet", Name: owner, Controller: new(true)}
	if owner == node {
		of.Kind = "Node"
	}
	return excerpt.PodOf(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: v1alpha1.Namespace, Name: name,
			Labels: map[string]string{v1alpha1.LabelApp: v1alpha1.PodStore}, OwnerReferences: []metav1.OwnerReference{of},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "store", Image: "registry.example.com/d8/registry:v1"}}},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "store", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}},
		}}},
	})
}

// TestSeen is what a switch hears of stores.
func TestSeen(t *testing.T) {
	t.Parallel()
	all := []string{"10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"}
	const excluded = "b: left out by annotation registry.deckhouse.io/exclude"
	for name, row := range map[string]struct {
		change func(f *fleet)
		want   switchover.Stores
		says   string
	}{
		"all serve": {func(*fleet) {}, switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7}, ""},
		"images in use": {func(f *fleet) {
			f.told("a:1\na:2\na:3\n")
			f.report("a", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 3, 3 })
			f.report("b", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 2, 3 })
			f.report("c", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 1<<62, 3 })
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7, Cached: 2, Used: 3}, ""},
		"one has another list": {func(f *fleet) {
			f.told("a:1\na:2\na:3\n")
			f.report("a", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 3, 3 })
			f.report("b", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 2, 2 })
			f.report("c", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 3, 3 })
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7, Cached: 2, Used: 3}, ""},
		"one has the longer list of before": {func(f *fleet) {
			f.told("a:1\n")
			f.report("a", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 1, 1 })
			f.report("b", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 2, 2 })
			f.report("c", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = 1, 1 })
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7, Used: 1}, ""},
		"one is behind": {func(f *fleet) { f.report("b", func(s *v1alpha1.StoreStatus) { s.Generation = 6 }) },
			switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 6, Oldest: []string{"b"}}, ""},
		"one fails": {func(f *fleet) {
			f.report("b", func(s *v1alpha1.StoreStatus) { s.State, s.Message = v1alpha1.StoreFailing, "no \x1b disk" })
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 2, Waiting: []string{"b"}, Endpoints: []string{all[0], all[2]}, Generation: 7}, "b: no \ufffd disk"},
		"a kubelet does not start one": {func(f *fleet) {
			f.report("b", func(s *v1alpha1.StoreStatus) {
				s.State, s.Message = v1alpha1.StoreWaiting, "it waits for the kubelet to run it"
			})
			f.there.Inventory = &cluster.Inventory{Pods: []*excerpt.Pod{
				waitingPod("registry-nodeservices-a", "a", "a", "ErrImagePull"),
				waitingPod("registry-nodeservices-b", "b", "b", "ContainerCreating"),
				waitingPod("registry-nodeservices-b", "b", "registry-agent", "CrashLoopBackOff"), // of nobody's
				waitingPod("registry-nodeservices-b", "b", "b", "ErrImage\x1bPull"),
			}}
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 2, Waiting: []string{"b"}, Endpoints: []string{all[0], all[2]}, Generation: 7},
			"b: it waits for the kubelet to run it; Pod registry-nodeservices-b: container store: ErrImage\ufffdPull"},
		"one of a DaemonSet does not start": {func(f *fleet) {
			f.report("b", func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreWaiting })
			f.there.Inventory = &cluster.Inventory{Pods: []*excerpt.Pod{waitingPod("registry-nodeservices-2-x7k2p", "b", "registry-nodeservices-2", "ErrImagePull")}}
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 2, Waiting: []string{"b"}, Endpoints: []string{all[0], all[2]}, Generation: 7},
			"b: it does not serve yet; Pod registry-nodeservices-2-x7k2p: container store: ErrImagePull"},
		"one is lost": {func(f *fleet) { f.lose("b") },
			switchover.Stores{Exists: true, Wanted: 2, Ready: 2, Endpoints: []string{all[0], all[2]}, Generation: 7, Missing: []string{"b: node is not Ready"}}, ""},
		"one is cordoned": {func(f *fleet) { f.node("b").Spec.Unschedulable = true },
			switchover.Stores{Exists: true, Wanted: 2, Ready: 2, Endpoints: []string{all[0], all[2]}, Generation: 7, Missing: []string{"b: node is cordoned"}}, ""},
		"all agents are silent": {func(f *fleet) { f.wish.Silent = map[string]time.Time{"a": today(), "b": today(), "c": today()} },
			switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7}, ""},
		"one may run another version": {func(f *fleet) { f.wish.Pod.Quota = 5; f.pass() },
			switchover.Stores{Exists: true, Wanted: 3, Ready: 2, Waiting: []string{"a"}, Endpoints: all[1:], Generation: 7}, "a: it does not serve yet"},
		"one is left out by the operator": {func(f *fleet) { f.exclude("b") },
			switchover.Stores{Exists: true, Wanted: 2, Ready: 2, Endpoints: []string{all[0], all[2]}, Generation: 7, Missing: []string{excluded}}, ""},
		"one is left out, lost and cordoned": {func(f *fleet) { f.exclude("b"); f.lose("b"); f.node("b").Spec.Unschedulable = true },
			switchover.Stores{Exists: true, Wanted: 2, Ready: 2, Endpoints: []string{all[0], all[2]}, Generation: 7, Missing: []string{excluded}}, ""},
		"a word of another boot": {func(f *fleet) { f.node("b").Status.NodeInfo.BootID = "next" },
			switchover.Stores{Exists: true, Wanted: 3, Ready: 2, Waiting: []string{"b"}, Endpoints: []string{all[0], all[2]}, Generation: 7}, "b: its agent has not reported yet"},
		"a word of another node": {func(f *fleet) { f.node("b").UID = "another" },
			switchover.Stores{Exists: true, Wanted: 3, Ready: 2, Waiting: []string{"b"}, Endpoints: []string{all[0], all[2]}, Generation: 7}, "b: its agent has not reported yet"},
		"it says another address": {func(f *fleet) { f.report("b", func(s *v1alpha1.StoreStatus) { s.Endpoint = "203.0.113.1:443" }) },
			switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7}, ""},
		"any number": {func(f *fleet) {
			f.report("b", func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = -1, 1<<62 })
		}, switchover.Stores{Exists: true, Wanted: 3, Ready: 3, Endpoints: all, Generation: 7}, ""},
		"none is wanted, all run": {func(f *fleet) { f.wish = Wish{None: true} }, switchover.Stores{Exists: true}, ""},
		"none is wanted yet": {func(f *fleet) {
			f.wish.None = true
			f.there.RegistryNodes = map[string]*v1alpha1.RegistryNode{}
			f.lose("c")
		}, switchover.Stores{Wanted: 2, Waiting: []string{"a", "b"}}, "a: it has not been asked yet; b: it has not been asked yet"},
		"none is wanted, one is lost": {func(f *fleet) {
			f.wish = Wish{None: true}
			f.pass()
			for _, rn := range f.there.RegistryNodes {
				rn.Status.Store = nil
			}
			f.report("b", func(*v1alpha1.StoreStatus) {})
			f.lose("b")
		}, switchover.Stores{Missing: []string{"b: node is not Ready"}}, ""},
		"none is wanted, and nobody stops them": {func(f *fleet) {
			f.wish = Wish{None: true, Silent: map[string]time.Time{"a": today()}}
			f.pass()
			f.exclude("b")
			f.node("c").Labels = map[string]string{v1alpha1.LabelAgent: "false"}
		}, switchover.Stores{Missing: []string{"a: its agent is silent since 2026-12-01T00:00:00Z", excluded, "c: no agent runs there"}}, ""},
		"none is wanted, and one agent stops its own": {func(f *fleet) {
			f.wish = Wish{None: true, Silent: map[string]time.Time{"a": today()}}
			f.node("b").Spec.Unschedulable = true
		}, switchover.Stores{Exists: true, Missing: []string{"a: its agent is silent since 2026-12-01T00:00:00Z"}}, ""},
		"no RegistryNode yet": {func(f *fleet) { f.there.RegistryNodes = map[string]*v1alpha1.RegistryNode{} },
			switchover.Stores{Wanted: 3, Waiting: []string{"a", "b", "c"}}, "a: it has not been asked yet; b: it has not been asked yet; c: it has not been asked yet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := running(t)
			row.change(f)
			row.want.Message = row.says
			if row.want.Generation == 7 { // all that serve
				for _, name := range []string{"a", "b", "c"} {
					if slices.Contains(row.want.Endpoints, f.endpointOf(name)) {
						row.want.Oldest = append(row.want.Oldest, name)
					}
				}
			}
			if got := f.wish.Seen(f.there, nil); !reflect.DeepEqual(got, row.want) {
				t.Errorf("%+v\nwant %+v", got, row.want)
			}
		})
	}
}

const ofThree = `["10.0.0.1:5001","10.0.0.2:5001","10.0.0.3:5001"]`

// TestAllAreThereBeforeTheyFetch: a store knows all others from its first moment, and none
// fetches images in use before all serve: else the first one would fetch all of them, and the
// next ones their part again. A node that is lost is not waited for.
func TestAllAreThereBeforeTheyFetch(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.wish.Pins, f.wish.Switching = []string{":v1"}, true
	content := func() (list, pins string) {
		t.Helper()
		specs, _ := f.wish.Specs(f.there, today())
		data, err := f.wish.content(f.there, specs)
		if err != nil {
			t.Fatal(err)
		}
		return string(data["stores-endpoints"]), string(data["pins"])
	}
	for _, name := range []string{"a", "b", "c"} {
		f.request(name)
		f.pass()
		if list, pins := content(); list != ofThree || pins != "" {
			t.Errorf("before %s serves it is told of %s and %q", name, list, pins)
		}
		f.serve(name)
	}
	if list, pins := content(); list != ofThree || pins != ":v1\n" {
		t.Errorf("once all serve they are told of %s and %q", list, pins)
	}

	f.report("b", func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreWaiting })
	f.wish.Switching = false
	if _, pins := content(); pins == "" {
		t.Error("after the switch a store that does not serve keeps the others from images in use")
	}
	f.wish.Switching = true
	f.lose("b")
	if list, pins := content(); list != ofThree || pins == "" {
		t.Errorf("without a node that is lost they are told of %s and %q", list, pins)
	}
	f.there.RegistryNodes["b"].Spec.Store = nil
	if list, _ := content(); list != `["10.0.0.1:5001","10.0.0.3:5001"]` {
		t.Errorf("of a node that was lost before a store ran there they are told: %s", list)
	}
}

// TestContent: the others of a store are those that run or are to run, also while one is
// restarted; and no more than a layout may name.
func TestContent(t *testing.T) {
	t.Parallel()
	f := running(t)
	f.report("b", func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreWaiting })
	specs, _ := f.wish.Specs(f.there, today())
	data, err := f.wish.content(f.there, specs)
	if err != nil || string(data["stores-endpoints"]) != ofThree || string(data["ca.crt"]) != f.wish.CA.Cert || len(data) != 4 {
		t.Errorf("%q, %v", data, err)
	}
	f.wish.Pins, f.wish.Trusted = []string{":v1", "a:2"}, "both"
	f.told("a:1\n")
	if data, err = f.wish.content(f.there, specs); err != nil || string(data["pins"]) != ":v1\na:2\n" || string(data["ca.crt"]) != "both" {
		t.Errorf("%q, %v", data, err)
	}
	for i := range 20 {
		n := f.there.Nodes[0].DeepCopy()
		n.Name, n.Status.Addresses = fmt.Sprintf("n%02d", i), []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.1.%d", i+1)}}
		f.there.Nodes = append(f.there.Nodes, *n)
		f.wish.Nodes = append(f.wish.Nodes, n.Name)
		f.wish.Images[n.Name] = f.wish.Images["a"]
	}
	if specs, _ := f.wish.Specs(f.there, today()); len(specs) != Most {
		t.Errorf("%d stores", len(specs))
	}
	text, err := json.Marshal(f.there.RegistryNodes["worker"].Spec)
	if err != nil || string(text) != "{}" {
		t.Errorf("a worker is asked for %s, %v", text, err)
	}
}
