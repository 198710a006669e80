package platform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/fleet"
)

func mover() *Mover { return NewMover(fleet.Client(), 0) }

// with is the view with another document.
func with(v *state.View, doc state.Document) *state.View {
	v.Doc = doc
	return v
}

// atNow is an empty cluster at this moment.
func atNow() *state.View {
	v := fleet.Empty()
	v.Observed.Now = time.Now()
	return v
}

func TestWhichRolloutsMayBegin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ have, want string }{
		{"a b deckhouse ds1", "deckhouse"},
		{"a b deckhouse:rolling ds1", ""},
		{"a b deckhouse:done ds1", "a b"},
		{"a b c d e ds1", "a b c"},
		{"a:rolling b:rolling c d e", "c"},
		{"a:rolling b:rolling c:rolling d", ""},
		{"a:stuck b c", ""}, // stop at the first one that does not come up
		{"a:rolling ds1", ""},
		{"a:done ds1 ds2 ds3 ds4", "ds1 ds2 ds3"},
		{"a:done ds1:rolling ds2 ds3 ds4", "ds2 ds3"},
		{"a:done ds1:done", ""},
	} {
		p := mover().Measure(fleet.New(strings.Fields(c.have)...))
		var got []string
		for _, ro := range p.next() {
			got = append(got, ro.GetName())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v may begin, want %q", c.have, got, c.want)
		}
	}
}

// TestNothingBeginsWhileNodesMayNotKnowTheName: rollouts that are under way go on,
// the others wait.
func TestNothingBeginsWhileNodesMayNotKnowTheName(t *testing.T) {
	t.Parallel()
	doc := fleet.Moving()
	doc.Desired.Repoint = false
	p := mover().Measure(with(fleet.New("a:done", "b", "ds1"), doc))
	if next := p.next(); len(next) != 0 || len(p.todo) != 2 {
		t.Errorf("%d of %d rollouts begin", len(next), len(p.todo))
	}
}

func TestOnlyANoOfTheAPIServerIsARefusal(t *testing.T) {
	t.Parallel()
	resource := appsv1.Resource("deployments")
	for _, c := range []struct {
		err  error
		want bool
	}{
		{apierrors.NewForbidden(resource, "d", nil), true},
		{fmt.Errorf("try: %w", apierrors.NewInvalid(appsv1.SchemeGroupVersion.WithKind("Deployment").GroupKind(), "d", nil)), true},
		{apierrors.NewTooManyRequests("later", 1), false},
		{apierrors.NewInternalError(errors.New("etcd")), false},
		{apierrors.NewServiceUnavailable("no"), false},
		{context.DeadlineExceeded, false},
	} {
		if got := cluster.Refusal(c.err); (got != nil) != c.want {
			t.Errorf("%v: told as %v", c.err, got)
		}
	}
}

func TestWhatTheUserReadsOfTheSwitch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ have, want string }{
		{"deckhouse a", "Applying new registry to deckhouse-controller"},
		{"deckhouse:rolling a", "Waiting for deckhouse-controller to become ready: 0 of 1 updated Pods are available"},
		{"a:stuck b", "1 workload(s) to re-point, 1 under way\n- Deployment d8-system/a: Pod a-1 waits for its image; no other rollout begins before it has come up"},
	} {
		s := fleet.New(strings.Fields(c.have)...)
		doc := fleet.Moving()
		if got := mover().Measure(with(s, doc)).Platform(doc, Others{}); strings.Join(append([]string{got.Message}, got.Waiting...), "\n- ") != c.want || got.Moved || got.Target != doc.Desired.Registry {
			t.Errorf("%s: %q, want %q", c.have, got.Message, c.want)
		}
	}
}

func TestPodsOnAbsentNodesDoNotCount(t *testing.T) {
	t.Parallel()
	s := fleet.New("ds1:rolling")
	s.Inventory.DaemonSets[0].Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 1, NumberAvailable: 1}
	s.Inventory.DaemonSets[0].Annotations[v1alpha1.AnnotationAvailable] = "2"
	s.Inventory.Pods = fleet.Pods(corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "ds1-1", Labels: map[string]string{"app": "ds1"}}, Spec: corev1.PodSpec{NodeName: "down"}})
	for notReady, done := range map[time.Duration]bool{0: false, time.Hour: true} {
		s.Observed.Nodes = []switchover.Node{{Name: "down", Ready: notReady == 0, NotReadyFor: notReady}}
		if p := mover().Measure(s); (len(p.underway) == 0) != done {
			t.Errorf("NotReady for %v: %d under way", notReady, len(p.underway))
		}
	}
}

// TestWhatFallsIllLaterHoldsUpNothing: no switch waits for a workload that came up
// in the switch and got a wrong image a month later.
func TestWhatFallsIllLaterHoldsUpNothing(t *testing.T) {
	t.Parallel()
	doc := fleet.Moving()
	doc.Passed = []switchover.Passed{{Step: v1alpha1.ConditionSwitch, Generation: 5}}
	p := mover().Measure(with(fleet.New("a:stuck", "b"), doc))
	if next := p.next(); len(next) != 1 || next[0].GetName() != "b" {
		t.Errorf("%d rollouts begin, want b", len(next))
	}
}

func TestANamespaceWithoutItsPullSecretWaits(t *testing.T) {
	t.Parallel()
	s := fleet.New("a")
	s.Blocked = map[string]error{v1alpha1.Namespace: cluster.ErrLost}
	if p := mover().Measure(s); len(p.todo) != 0 {
		t.Errorf("%d to be re-pointed", len(p.todo))
	}
}

// TestImageVolumesMoveToo: a reference that is counted must be movable. Otherwise
// the switch would never end.
func TestImageVolumesMoveToo(t *testing.T) {
	t.Parallel()
	s := fleet.New("a")
	d := &s.Inventory.Deployments[0]
	d.ResourceVersion = "7"
	d.Spec.Template.Spec = fleet.Spec("other.io/x:1")
	d.Spec.Template.Spec.Volumes = []corev1.Volume{
		{Name: "data"},
		{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: fleet.Old().Reference("model:1"), PullPolicy: corev1.PullAlways}}},
	}
	p := mover().Measure(s)
	if len(p.todo) != 1 {
		t.Fatalf("%d to be re-pointed", len(p.todo))
	}
	before, after := cluster.MustJSON(d), cluster.MustJSON(p.todo[0].Repointed(p.todo[0].Repointing))
	merged, err := strategicpatch.StrategicMergePatch(before, after, &appsv1.Deployment{})
	if err != nil {
		t.Fatal(err)
	}
	var got appsv1.Deployment
	if err := json.Unmarshal(merged, &got); err != nil {
		t.Fatal(err)
	}
	volumes := got.Spec.Template.Spec.Volumes
	if len(volumes) != 2 || got.Spec.Template.Spec.Containers[0].Image != "other.io/x:1" {
		t.Fatalf("the patch changes more than it should: %s", merged)
	}
	if v := volumes[1].Image; v == nil || v.Reference != layout.Fixed().Reference("model:1") || v.PullPolicy != corev1.PullAlways {
		t.Errorf("the volume is %+v", v)
	}
	if !strings.Contains(string(after), `"resourceVersion":"7"`) {
		t.Errorf("a change that was not seen would be overwritten: %s", after)
	}
}

// TestAStaleCacheBeginsNothing: a workload that was just re-pointed counts as under
// way although the cache does not show it. If somebody removes our annotation, it
// is not patched again.
func TestAStaleCacheBeginsNothing(t *testing.T) {
	t.Parallel()
	s, r, doc := fleet.New("a", "b", "c", "d", "e"), mover(), fleet.Moving()
	for i := range s.Inventory.Deployments {
		d := &s.Inventory.Deployments[i]
		d.UID, d.ResourceVersion = types.UID(d.Name), "7"
	}
	for _, ro := range r.Measure(with(s, doc)).next() {
		r.remember(ro, doc)
	}
	if p := r.Measure(with(s, doc)); len(p.next()) != 0 || len(p.underway) != 3 || len(p.todo) != 2 {
		t.Errorf("%d begin, %d under way, %d to do", len(p.next()), len(p.underway), len(p.todo))
	}
	s.Inventory.Deployments[0].ResourceVersion = "8" // and its annotations are gone
	p := r.Measure(with(s, doc))
	if len(p.skipped) != 1 || !strings.Contains(p.skipped[0].String(), "a: it was re-pointed in this switch and changed back") {
		t.Errorf("left %v", p.skipped)
	}
	if next := p.next(); len(next) != 1 || next[0].GetName() != "d" {
		t.Errorf("%v begin", next)
	}
	r.forget(6)
	if len(r.sent) != 0 {
		t.Error("the next switch finds what this one did")
	}
}

// TestTheOrderDoesNotHangOnTheCache: a cache may list in any order.
func TestTheOrderDoesNotHangOnTheCache(t *testing.T) {
	t.Parallel()
	s := fleet.New("e", "c", "a", "d", "b", "deckhouse:done")
	for range 5 {
		s.Inventory.Deployments = append(s.Inventory.Deployments[1:], s.Inventory.Deployments[0])
		var got []string
		for _, ro := range mover().Measure(s).next() {
			got = append(got, ro.GetName())
		}
		if !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("%v begin", got)
		}
	}
}

// TestAnOperatorCanGoOnWithoutOne: a workload that does not come up is not waited
// for when users opt it out or delete it.
func TestAnOperatorCanGoOnWithoutOne(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*state.View){
		"opted out": func(s *state.View) { s.Inventory.Deployments[0].Annotations[v1alpha1.AnnotationRepoint] = "false" },
		"deleted":   func(s *state.View) { s.Inventory.Deployments[0].DeletionTimestamp = &metav1.Time{} },
		"nothing":   nil,
	} {
		s := fleet.New("a:stuck", "b")
		if change != nil {
			change(s)
		}
		if next := mover().Measure(s).next(); (len(next) == 1) != (change != nil) {
			t.Errorf("%s: %d begin", name, len(next))
		}
	}
	s := fleet.New("a:stuck", "b")
	s.Inventory.Ending = map[string]bool{v1alpha1.Namespace: true}
	p := mover().Measure(s)
	if len(p.underway) != 0 || len(p.skipped) != 1 || p.skipped[0].String() != "Deployment d8-system/b: Namespace d8-system is being deleted" {
		t.Errorf("in an ending namespace %d are under way, left %v", len(p.underway), p.skipped)
	}
}
