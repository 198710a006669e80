package component

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// pretended is all that another component takes.
func pretended() Component {
	return Component{
		Kind: "Deployment", Name: "registry-pretended",
		Wanted: func(doc state.Document) bool { return doc.Target.Mode == switchover.Direct },
		Template: func(image string, _ int) corev1.PodTemplateSpec {
			template := corev1.PodTemplateSpec{Spec: fleet.Spec(image)}
			template.Labels = labelsOf("registry-pretended", nil)
			return template
		},
		Replicas: func(switchover.Observed) int { return 1 },
		Secret: Secret{Name: "registry-pretended", Type: corev1.SecretTypeOpaque, Data: func(*state.View) (map[string][]byte, error) {
			return map[string][]byte{"key": []byte("value")}, nil
		}},
		Service: Service{Name: "registry-pretended", PortName: "http", Port: 80},
	}
}

// bench is a Keeper on a real API server.
type bench struct {
	*testing.T
	client *cluster.Client
	keeper *Keeper
	doc    state.Document
}

func newBench(t *testing.T, api *apiserver.API, list ...Component) *bench {
	t.Helper()
	c := fleet.Client()
	c.Client, c.Live = api.Client(), api.Client()
	c.Whose = cluster.Selection{Platform: fleet.Whose().Platform, Own: Names(list)}
	b := &bench{T: t, client: c, keeper: NewKeeper(c, Config{Image: ":own"}, list, nil)}
	b.doc = fleet.Moving()
	b.doc.Target = switchover.Target{Mode: switchover.Direct}
	b.doc.Desired.Own = upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTPS}
	return b
}

// look is what a pass sees now.
func (b *bench) look() *state.View {
	b.Helper()
	there, err := cluster.Take(b.Context(), b.client)
	if err != nil {
		b.Fatal(err)
	}
	there.Layout = &corev1.Secret{} // something is published
	return &state.View{Snapshot: there, Doc: b.doc}
}

// pass applies what a pass does with own workloads.
func (b *bench) pass(mayMove bool) {
	b.Helper()
	v := b.look()
	if err := b.keeper.ApplyFirst(b.Context(), v); err != nil {
		b.Fatal(err)
	}
	if err := b.keeper.Move(b.Context(), b.look(), mayMove); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) deployment() *appsv1.Deployment {
	b.Helper()
	if w := b.look().Inventory.OwnWorkload("Deployment", "registry-pretended"); w != nil {
		return w.Object.(*appsv1.Deployment)
	}
	return nil
}

// finish is what the controllers of Kubernetes do.
func (b *bench) finish() {
	b.Helper()
	d := b.deployment().DeepCopy()
	d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
	if err := b.client.Status().Update(b.Context(), d); err != nil {
		b.Fatal(err)
	}
}

// TestAnotherComponentIsAnotherEntry: one is made, moved in its turn, waited for
// and removed, by one entry in the list.
func TestAnotherComponentIsAnotherEntry(t *testing.T) {
	for _, first := range []bool{false, true} {
		c := pretended()
		c.First = first
		b := newBench(t, server.Start(t), c)
		b.pass(false)
		if d := b.deployment(); d == nil || d.Spec.Template.Spec.Containers[0].Image != "r.io/d8:own" || revisionOf(&d.Spec.Template) == "" {
			t.Fatalf("first %t: made %v", first, d)
		}
		if b.look().OwnService(c.Name) == nil || b.look().OwnSecret(c.Name) == nil {
			t.Errorf("first %t: its Secret or its Service is missing", first)
		}
		for _, w := range b.look().Inventory.Workloads() {
			if w.GetName() == c.Name && (!w.Own || w.Platform) {
				t.Errorf("first %t: it is not told from the platform's", first)
			}
		}
		if waits := b.keeper.Progress(b.look()); !strings.Contains(waits, "not yet observed") {
			t.Errorf("first %t: waits for %q", first, waits)
		}
		b.finish()
		if waits := b.keeper.Progress(b.look()); waits != "" {
			t.Errorf("first %t: waits for %q", first, waits)
		}
		b.doc.Desired.Own.Host = "new.io"
		for _, mayMove := range []bool{false, true} {
			if b.pass(mayMove); strings.HasPrefix(b.deployment().Spec.Template.Spec.Containers[0].Image, "new.io/") != mayMove {
				t.Errorf("first %t: may move %t, and it runs %s", first, mayMove, b.deployment().Spec.Template.Spec.Containers[0].Image)
			}
			if waits := b.keeper.Progress(b.look()); waits == "" {
				t.Errorf("first %t: may move %t, and nothing is waited for", first, mayMove)
			}
		}
		b.doc.Target.Mode = switchover.Unmanaged
		b.pass(true)
		v := b.look()
		if v.Inventory.OwnWorkload(c.Kind, c.Name) != nil || v.OwnService(c.Name) != nil || v.OwnSecret(c.Name) != nil {
			t.Errorf("first %t: unwanted, and still there", first)
		}
	}
}

// TestWhatIsNotOursIsNotRemoved: the name alone makes nothing ours.
func TestWhatIsNotOursIsNotRemoved(t *testing.T) {
	c := pretended()
	b := newBench(t, server.Start(t), c)
	theirs := &appsv1.Deployment{}
	theirs.Namespace, theirs.Name = v1alpha1.Namespace, c.Name
	theirs.Spec = appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.LabelApp: c.Name}}, Template: c.Template("x.io/a:1", 0)}
	if err := b.client.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	b.doc.Target.Mode = switchover.Unmanaged
	b.pass(true)
	if b.deployment() == nil {
		t.Error("somebody else's Deployment was removed")
	}
	if err := b.client.Delete(t.Context(), theirs, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
}
