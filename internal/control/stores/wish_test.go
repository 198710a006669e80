package stores

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/pod"
)

func today() time.Time { return time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC) }

// fleet is a cluster of nodes a, b, c with addresses 10.0.0.1, 2, 3, and a worker.
type fleet struct {
	t     *testing.T
	there *cluster.Snapshot
	wish  Wish
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ca, err := pki.NewCA(today(), pki.ServiceNames("cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, there: &cluster.Snapshot{RegistryNodes: map[string]*v1alpha1.RegistryNode{}, Inventory: &cluster.Inventory{}}, wish: Wish{
		Nodes:  []string{"c", "a", "b", "a"},
		Pod:    pod.Store{Port: 5001, Path: "/opt/deckhouse/registry", TTL: time.Hour},
		Images: map[string]string{},
		Layout: []byte("layout"), Users: []byte("users"), Names: pki.ServiceNames("cluster.local", "10.96.0.9"), CA: ca,
	}}
	for i, name := range []string{"a", "b", "c", "worker"} {
		f.wish.Images[name] = "registry.example.com/d8/registry:v1"
		f.there.Nodes = append(f.there.Nodes, corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{BootID: "boot"},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Addresses:  []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.0.0.%d", i+1)}},
			},
		})
		f.there.RegistryNodes[name] = &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.RegistryNodeStatus{NodeUID: "uid-" + name, BootID: "boot"}}
	}
	return f
}

func (f *fleet) node(name string) *corev1.Node {
	i := slices.IndexFunc(f.there.Nodes, func(n corev1.Node) bool { return n.Name == name })
	return &f.there.Nodes[i]
}

// lose has a node lost.
func (f *fleet) lose(name string) {
	f.node(name).Status.Conditions[0].Status = corev1.ConditionUnknown
}

// exclude has the operator leave a node out.
func (f *fleet) exclude(name string) {
	f.node(name).Annotations = map[string]string{v1alpha1.AnnotationExclude: "true"}
}

func (f *fleet) endpointOf(name string) string {
	return candidate{addresses: []string{f.node(name).Status.Addresses[1].Address}}.endpoint(5001)
}

// request is what an agent of a node asks for; it would like more.
func (f *fleet) request(name string) string {
	f.t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		f.t.Fatal(err)
	}
	request, err := pki.Request(key, []string{"evil.example.com", "10.0.0.99", "kubernetes.default.svc"})
	if err != nil {
		f.t.Fatal(err)
	}
	f.there.RegistryNodes[name].Status.Store = &v1alpha1.StoreStatus{State: v1alpha1.StoreWaiting, Request: request}
	return request
}

// told has stores be told of images in use.
func (f *fleet) told(pins string) {
	secret := &corev1.Secret{ObjectMeta: cluster.HereMeta(v1alpha1.SecretStore), Data: map[string][]byte{v1alpha1.KeyStorePins: []byte(pins)}}
	f.there.Secrets = map[client.ObjectKey]*corev1.Secret{cluster.Here(v1alpha1.SecretStore): secret}
}

// pass is what a controller makes of it, which the nodes hear of.
func (f *fleet) pass() map[string]error {
	f.t.Helper()
	specs, problems := f.wish.Specs(f.there, today())
	for name, rn := range f.there.RegistryNodes {
		rn.Spec.Store = specs[name]
	}
	return problems
}

// approved are those who may run the version that is wanted.
func (f *fleet) approved() string {
	var names []string
	for _, name := range []string{"a", "b", "c", "worker"} {
		if s := f.there.RegistryNodes[name].Spec.Store; s != nil && s.Approved == s.Version {
			names = append(names, name)
		}
	}
	return strings.Join(names, "")
}

// report is what the agent of a node says.
func (f *fleet) report(name string, change func(s *v1alpha1.StoreStatus)) {
	rn := f.there.RegistryNodes[name]
	if rn.Status.Store == nil {
		rn.Status.Store = &v1alpha1.StoreStatus{}
	}
	change(rn.Status.Store)
}

// serve has the agent of a node say that it does what it was asked for.
func (f *fleet) serve(name string) {
	f.report(name, func(s *v1alpha1.StoreStatus) {
		s.State, s.Version, s.Generation, s.Message = v1alpha1.StoreServing, f.there.RegistryNodes[name].Spec.Store.Approved, 7, ""
	})
}

// running is a fleet whose stores serve.
func running(t *testing.T) *fleet {
	f := newFleet(t)
	for _, name := range []string{"a", "b", "c"} {
		f.request(name)
	}
	for range 3 {
		f.pass()
		for _, name := range f.approved() {
			f.serve(string(name))
		}
	}
	if f.approved() != "abc" {
		t.Fatalf("%q run", f.approved())
	}
	return f
}

// TestOneAfterTheOther: the first version and each later one. What fails stops the others, and
// can itself be mended.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	if f.pass(); f.approved() != "" {
		t.Errorf("without certificates %q may run", f.approved())
	}
	for i, name := range []string{"a", "b", "c"} {
		f.request(name)
		f.pass()
		f.pass()
		if want := "abc"[:i+1]; f.approved() != want {
			t.Fatalf("%q may run, want %q", f.approved(), want)
		}
		f.pass()
		f.serve(name)
	}
	for name := range f.wish.Images {
		f.wish.Images[name] = "registry.example.com/d8/registry:v2"
	}
	for i, name := range []string{"a", "b", "c"} {
		f.pass()
		f.pass()
		if want := "abc"[:i+1]; f.approved() != want {
			t.Fatalf("%q may run v2, want %q", f.approved(), want)
		}
		if name == "b" {
			f.report("b", func(s *v1alpha1.StoreStatus) { s.State, s.Version = v1alpha1.StoreFailing, "" })
			if f.pass(); f.approved() != "ab" {
				t.Fatalf("one fails, and %q may run v2", f.approved())
			}
		}
		f.serve(name)
	}
	f.pass()
	if f.approved() != "abc" {
		t.Errorf("%q run", f.approved())
	}
}

// TestWhoIsNext is who may run another version, from stores that all run the one of before.
func TestWhoIsNext(t *testing.T) {
	t.Parallel()
	fails := func(s *v1alpha1.StoreStatus) { s.State, s.Version = v1alpha1.StoreFailing, "" }
	for name, row := range map[string]struct {
		change func(f *fleet)
		want   string
	}{
		"all serve":                     {func(*fleet) {}, "a"},
		"one fails":                     {func(f *fleet) { f.report("c", fails) }, "c"},
		"two fail":                      {func(f *fleet) { f.report("c", fails); f.report("b", fails) }, "b"},
		"the first is lost":             {func(f *fleet) { f.lose("a") }, "b"},
		"the first is cordoned":         {func(f *fleet) { f.node("a").Spec.Unschedulable = true }, "b"},
		"the first has no address":      {func(f *fleet) { f.node("a").Status.Addresses = nil }, "b"},
		"the first was made anew":       {func(f *fleet) { f.node("a").UID = "another" }, "a"},
		"the first has not said a word": {func(f *fleet) { f.there.RegistryNodes["a"].Status.Store = nil }, "a"},
		"a report of another boot":      {func(f *fleet) { f.node("c").Status.NodeInfo.BootID = "next" }, "c"},
		"two may, and one of them does not serve": {func(f *fleet) {
			f.pass()
			f.report("a", fails)
		}, "a"},
		"the one of before still serves": {func(f *fleet) { f.pass() }, "a"},
		"the one that may is lost":       {func(f *fleet) { f.pass(); f.lose("a") }, "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := running(t)
			f.wish.Pod.Quota = 1 << 30
			row.change(f)
			if f.pass(); f.approved() != row.want {
				t.Errorf("%q may run it, want %q", f.approved(), row.want)
			}
		})
	}
}

// TestCertificates are for the node's own addresses and the Services, whatever was asked for.
func TestCertificates(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.request("a")
	f.node("a").Status.Addresses = append(f.node("a").Status.Addresses,
		corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::1"}, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
		corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.2"}, // b's
		corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "evil.example.com"})
	f.pass()
	spec := f.there.RegistryNodes["a"].Spec.Store
	block, _ := pem.Decode([]byte(spec.Certificate))
	if block == nil {
		t.Fatal("none")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(cert.DNSNames, cert.IPAddresses); got != "[registry.d8-system.svc registry.d8-system.svc.cluster.local] [127.0.0.1 10.0.0.1 fd00::1 10.96.0.9]" {
		t.Errorf("%s", got)
	}
	if !slices.Equal(spec.Addresses, []string{"10.0.0.1", "fd00::1"}) {
		t.Errorf("%q", spec.Addresses)
	}
	first := spec.Certificate
	if f.pass(); f.there.RegistryNodes["a"].Spec.Store.Certificate != first {
		t.Error("another one each time")
	}
	f.there.RegistryNodes["a"].Status.Store.Request = "none any more"
	if problems := f.pass(); f.there.RegistryNodes["a"].Spec.Store.Certificate != first || problems["a"] == nil {
		t.Errorf("what cannot be signed ends the one that serves: %v", problems)
	}
	if f.request("a"); f.pass() != nil && f.there.RegistryNodes["a"].Spec.Store.Certificate == first {
		t.Error("another key, and the certificate of before")
	}
	// Both say that 10.0.0.2 is theirs: neither has it.
	f.request("b")
	if problems := f.pass(); f.there.RegistryNodes["b"].Spec.Store.Certificate != "" || problems["b"] == nil {
		t.Errorf("an address of two nodes is signed for: %v", problems)
	}
	f.wish.CA = pki.KeyPair{}
	if problems := f.pass(); !errors.Is(problems["a"], pki.ErrDamaged) {
		t.Errorf("%v", problems)
	}
}
