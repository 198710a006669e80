package nodestore

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// controller applies a Wish until what it sees is as wanted.
func (n *realNode) controller(c client.Client, w stores.Wish, good func(switchover.Stores) bool) switchover.Stores {
	n.t.Helper()
	keeper := stores.New(&cluster.Client{Client: c, Live: c, Log: slog.New(slog.DiscardHandler)})
	var seen switchover.Stores
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		own := n.own()
		there := &cluster.Snapshot{
			Inventory: &cluster.Inventory{DaemonSets: n.daemonSets()}, RegistryNodes: map[string]*v1alpha1.RegistryNode{"node": own}, Secrets: map[client.ObjectKey]*corev1.Secret{},
			Nodes: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node", UID: own.OwnerReferences[0].UID}, Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{BootID: "boot"},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}},
			}}},
		}
		secret, err := cluster.Get[corev1.Secret](n.t.Context(), n.api.Client(), cluster.Here(v1alpha1.SecretStore))
		n.must(err)
		if secret != nil {
			there.Secrets[cluster.Here(v1alpha1.SecretStore)] = secret
		}
		seen = keeper.Seen(there, w, time.Now())
		refused, err := keeper.Apply(n.t.Context(), there, w, time.Now())
		n.must(errors.Join(err, refused["node"]))
		if good(seen) {
			return seen
		}
	}
	n.t.Fatalf("timed out; last seen %+v", seen)
	return seen
}

// daemonSets are those of stores. Their controller gives the pod of one to the kubelet, and the
// garbage collector ends one that is deleted when its pod has ended.
func (n *realNode) daemonSets() []appsv1.DaemonSet {
	n.t.Helper()
	var sets appsv1.DaemonSetList
	n.must(n.api.Client().List(n.t.Context(), &sets, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{v1alpha1.LabelApp: v1alpha1.PodStore}))
	pod := ""
	for i := range sets.Items {
		set := &sets.Items[i]
		if set.DeletionTimestamp == nil {
			text, err := yaml.Marshal(corev1.Pod{Spec: set.Spec.Template.Spec})
			n.must(err)
			pod += string(text)
		}
	}
	n.other.Store(&pod)
	for i := range sets.Items {
		if set := &sets.Items[i]; set.DeletionTimestamp != nil && n.pid.Load() == 0 {
			base := set.DeepCopy()
			set.Finalizers = nil
			n.must(n.api.Client().Patch(n.t.Context(), set, client.MergeFrom(base)))
		}
	}
	return sets.Items
}

// both is a node whose agent runs, a controller with the rights that it has, and a Wish for a store.
func both(t *testing.T, n *realNode) (client.Client, stores.Wish) {
	t.Helper()
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "secret"})
	r.PushRandom(t, "team/app", "v1", 1, 256)
	n.order(func(o *v1alpha1.RegistryNode) {
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "node", UID: "a-node"}}
	})
	c := n.api.ClientFor(t, n.api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "node"}))
	n.kube = n.api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "node"})
	n.startAgent()
	data := fronttest.Content(t, 3, r.Upstream("team"))
	return c, stores.Wish{
		Nodes:  []string{"node"},
		Pod:    pod.Store{Port: 5001, Path: "/opt/deckhouse/registry", Quota: 1 << 30, Floor: 1, TTL: time.Hour},
		Images: map[string]string{"node": "registry.example.com/d8/registry:v1"},
		Layout: data["layout"], Users: data["users"], Names: pki.ServiceNames("cluster.local"), CA: n.ca,
	}
}

// TestByDaemonSet: a store where the kubelet takes no static pods, and then does, from nothing to
// nothing. The kubelet says when it is given two.
func TestByDaemonSet(t *testing.T) {
	n := newRealNode(t)
	n.noStatic.Store(true)
	c, wish := both(t, n)
	defer func() { n.stop() }()
	serves := func(s switchover.Stores) bool { return s.Ready == 1 && s.Generation == 3 && s.Message == "" }
	n.controller(c, wish, serves)
	first := n.pid.Load()
	if code, _ := n.pull(); code != http.StatusOK || *n.other.Load() == "" || strings.Contains(n.files(), "/manifests/") {
		t.Errorf("a pull: %d; %s", code, n.files())
	}
	wish.Pod.Quota = 2 << 30
	n.controller(c, wish, func(s switchover.Stores) bool { return serves(s) && n.pid.Load() != first && n.pid.Load() != 0 })
	second := n.pid.Load()

	n.noStatic.Store(false)
	n.order(func(o *v1alpha1.RegistryNode) { o.Spec.NodeGroup = "another" }) // agents look when something changes
	n.controller(c, wish, func(s switchover.Stores) bool {
		return serves(s) && strings.Contains(n.files(), "/manifests/") && n.pid.Load() != second
	})
	if sets := n.daemonSets(); len(sets) > 0 {
		t.Errorf("%d DaemonSets are left", len(sets))
	}
	if code, _ := n.pull(); code != http.StatusOK {
		t.Errorf("a pull: %d", code)
	}
	n.controller(c, stores.Wish{None: true}, func(s switchover.Stores) bool { return !s.Exists })
	n.ended()

	n.noStatic.Store(true)
	n.controller(c, wish, serves)
	n.controller(c, stores.Wish{None: true}, func(s switchover.Stores) bool { return !s.Exists })
	n.ended()
	if files := n.files(); strings.Contains(files, "/etc/") || len(n.daemonSets()) > 0 || n.own().Spec.Store != nil || n.place != (Place{}) {
		t.Errorf("left: %s, %+v", files, n.own())
	}
}

// TestBothHalves: what the controller asks for is what the node understands, each with the rights
// that it has, from nothing to nothing.
func TestBothHalves(t *testing.T) {
	n := newRealNode(t)
	c, wish := both(t, n)
	defer func() { n.stop() }()
	seen := n.controller(c, wish, func(s switchover.Stores) bool { return s.Ready == 1 && s.Generation == 3 && s.Message == "" })
	if len(seen.Endpoints) != 1 || seen.Endpoints[0] != ip+":5001" || !seen.Exists {
		t.Errorf("%+v", seen)
	}
	first := n.pid.Load()
	if code, _ := n.pull(); code != http.StatusOK {
		t.Errorf("a pull: %d", code)
	}
	seen = n.controller(c, wish, func(switchover.Stores) bool {
		own := n.own()
		return own.Status.Store.Identity == regauth.Fingerprint(wish.Users, []byte(own.Spec.Store.Certificate))
	})
	if !seen.LastUse.IsZero() {
		t.Errorf("a node is taken for a client: %+v", seen)
	}
	if code, _ := n.pullAs("ro", fronttest.ClientPassword); code != http.StatusOK {
		t.Errorf("a pull: %d", code)
	}
	n.controller(c, wish, func(s switchover.Stores) bool { return !s.LastUse.IsZero() && slices.Equal(s.Clients, []string{ip}) })
	wish.Pod.Quota = 2 << 30
	n.controller(c, wish, func(s switchover.Stores) bool { return s.Ready == 1 && n.pid.Load() != first && n.pid.Load() != 0 })
	n.controller(c, stores.Wish{None: true}, func(s switchover.Stores) bool { return !s.Exists })
	n.controller(c, stores.Wish{None: true}, func(switchover.Stores) bool { return true })
	n.ended()
	secret, err := cluster.Get[corev1.Secret](t.Context(), n.api.Client(), cluster.Here(v1alpha1.SecretStore))
	if err != nil || secret != nil || n.pid.Load() != 0 || n.own().Spec.Store != nil || n.own().Status.Store != nil {
		t.Errorf("left: %v, %v, process %d, %+v", secret != nil, err, n.pid.Load(), n.own())
	}
}
