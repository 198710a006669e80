package stores

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// world is a Keeper with the rights of a controller on a real API server, and an agent's.
type world struct {
	*fleet
	ctx               context.Context //nolint:containedctx // of the test
	api               *apiserver.API
	controller, agent client.Client
	proxy             *apiserver.FaultProxy // between the controller and the server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	api := server.Start(t)
	w := &world{fleet: newFleet(t), ctx: t.Context(), api: api}
	for _, node := range w.there.Nodes {
		own := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: node.Name}, Spec: v1alpha1.RegistryNodeSpec{NodeGroup: "group"}}
		w.must(api.Client().Create(t.Context(), own))
		t.Cleanup(func() {
			if err := api.Client().Delete(context.WithoutCancel(t.Context()), own); err != nil {
				t.Error(err)
			}
		})
	}
	w.proxy = apiserver.NewFaultProxy(t, api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "a"}))
	w.controller = api.ClientFor(t, w.proxy.Config())
	w.agent = api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: "a"}))
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// apply is a pass of a controller that has just read the cluster.
func (w *world) apply() switchover.Stores {
	w.t.Helper()
	w.read()
	k := New(&cluster.Client{Client: w.controller, Live: w.controller, Log: slog.New(slog.DiscardHandler)})
	refused, err := k.Apply(w.ctx, w.there, w.wish, today())
	w.must(err)
	for _, err := range refused {
		w.must(err)
	}
	seen := k.Seen(w.there, w.wish, today())
	w.read()
	return seen
}

func (w *world) read() {
	w.t.Helper()
	var nodes v1alpha1.RegistryNodeList
	w.must(w.api.Client().List(w.ctx, &nodes))
	w.there.RegistryNodes = cluster.ByNode(nodes.Items)
	var sets appsv1.DaemonSetList
	w.must(w.api.Client().List(w.ctx, &sets, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{v1alpha1.LabelApp: v1alpha1.PodStore}))
	w.there.Inventory.DaemonSets = sets.Items
	w.there.Secrets = map[client.ObjectKey]*corev1.Secret{}
	secret, err := cluster.Get[corev1.Secret](w.ctx, w.api.Client(), cluster.Here(v1alpha1.SecretStore))
	w.must(err)
	if secret != nil {
		w.there.Secrets[cluster.Here(v1alpha1.SecretStore)] = secret
	}
}

// say has agents say what they were told, on the API server.
func (w *world) say(do func()) {
	w.t.Helper()
	before := map[string]*v1alpha1.RegistryNode{}
	for name, rn := range w.there.RegistryNodes {
		before[name] = rn.DeepCopy()
		rn.Status.NodeUID, rn.Status.BootID = "uid-"+name, "boot"
	}
	do()
	for name, rn := range w.there.RegistryNodes {
		w.must(w.api.Client().Status().Patch(w.ctx, rn.DeepCopy(), client.MergeFrom(before[name])))
	}
	w.read()
}

// mayRead is what an agent is told that asks for the Secret, once the API server has heard of a
// change of rights.
func (w *world) mayRead(want bool) {
	w.t.Helper()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		err = w.agent.Get(w.ctx, cluster.Here(v1alpha1.SecretStore), &corev1.Secret{})
		if want == !apierrors.IsForbidden(err) {
			return
		}
	}
	w.t.Fatalf("an agent may read it: %v, want %v (%v)", !apierrors.IsForbidden(err), want, err)
}

// TestOnARealServer is the life of stores in a cluster, with the rights of each process: asked
// for, signed, approved one after the other, and gone with all that was made for them. Not in
// parallel: a cluster has one set of stores.
func TestOnARealServer(t *testing.T) {
	w := newWorld(t)
	wish := w.wish
	w.wish = Wish{None: true}
	if seen := w.apply(); seen.Exists || len(w.there.Secrets) > 0 || w.there.RegistryNodes["a"].Spec.Store != nil {
		t.Errorf("without a wish: %+v", seen)
	}
	w.mayRead(false)
	w.wish = wish
	if seen := w.apply(); seen.Wanted != 3 || seen.Ready != 0 || w.there.RegistryNodes["worker"].Spec.Store != nil {
		t.Errorf("%+v", seen)
	}
	w.mayRead(true)
	for question, err := range map[string]error{
		"list":   w.agent.List(w.ctx, &corev1.SecretList{}, client.InNamespace(v1alpha1.Namespace), client.MatchingFields{"metadata.name": v1alpha1.SecretStore}),
		"delete": w.agent.Delete(w.ctx, w.there.Secrets[cluster.Here(v1alpha1.SecretStore)].DeepCopy()),
		"another binding": w.controller.Create(w.ctx, &rbacv1.RoleBinding{
			ObjectMeta: cluster.HereMeta("mine"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: v1alpha1.RoleStore},
		}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", question, err)
		}
	}
	w.say(func() {
		for _, name := range []string{"a", "b", "c"} {
			w.request(name)
		}
	})
	for _, want := range []string{"a", "ab", "abc"} {
		w.apply()
		if w.apply(); w.approved() != want {
			t.Fatalf("%q may run, want %q", w.approved(), want)
		}
		w.say(func() { w.serve(want[len(want)-1:]) })
	}
	w.apply()
	before := len(w.proxy.Writes())
	if seen := w.apply(); seen.Ready != 3 || len(seen.Endpoints) != 3 || seen.Generation != 7 || len(w.proxy.Writes()) != before {
		t.Errorf("%+v; what is as it should be is written: %q", seen, w.proxy.Writes()[before:])
	}
	if own := w.there.RegistryNodes["a"]; own.Spec.NodeGroup != "group" || own.Status.Store.Request == "" {
		t.Errorf("what others write is lost: %+v", own)
	}

	w.wish = Wish{None: true}
	if seen := w.apply(); !seen.Exists || len(w.there.Secrets) == 0 || w.there.RegistryNodes["a"].Spec.Store != nil {
		t.Errorf("stores that run have lost what they serve by: %+v", seen)
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
	w.mayRead(false)
}
