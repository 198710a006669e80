package platform

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// TestWhoseAReferenceIs: by the namespace, and by nothing that a tenant writes.
func TestWhoseAReferenceIs(t *testing.T) {
	t.Parallel()
	platform, yes := labels.Set{"heritage": "deckhouse"}, true
	meta := func(namespace, name string, change ...func(*metav1.ObjectMeta)) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name), Labels: platform}
		for _, f := range change {
			f(&m)
		}
		return m
	}
	ignored := func(m *metav1.ObjectMeta) { m.Annotations = map[string]string{v1alpha1.AnnotationIgnore: "true"} }
	madeBy := func(kind, namespace, name string) func(*metav1.ObjectMeta) {
		return func(m *metav1.ObjectMeta) {
			m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, UID: types.UID(namespace + name), Controller: &yes}}
		}
	}
	spec := fleet.Spec("r.io/d8/a:1")
	deployment := func(m metav1.ObjectMeta) appsv1.Deployment {
		return appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Template: fleet.Template("r.io/d8/a:1")}}
	}
	inv := &cluster.Inventory{
		Whose:      fleet.Whose(),
		Namespaces: map[string]labels.Set{"d8-a": platform, "listed": nil, "mine": nil, "d8-evil": nil, "old": platform},
		Ignored:    map[string]bool{"old": true},
		Deployments: []appsv1.Deployment{
			deployment(meta("d8-a", "d")), deployment(meta("mine", "d")), deployment(meta("d8-a", "past", ignored)), deployment(meta("old", "d")),
		},
		Makers: fleet.Makers(&appsv1.ReplicaSet{ObjectMeta: meta("d8-a", "rs", madeBy("Deployment", "d8-a", "past")), Spec: appsv1.ReplicaSetSpec{Template: fleet.Template("r.io/d8/a:1")}}),
		Pods: fleet.Pods(
			corev1.Pod{ObjectMeta: meta("d8-a", "of-past", madeBy("ReplicaSet", "d8-a", "rs")), Spec: spec}, corev1.Pod{ObjectMeta: meta("listed", "p"), Spec: spec},
			corev1.Pod{ObjectMeta: meta("d8-evil", "p"), Spec: spec}, corev1.Pod{ObjectMeta: meta("mine", "p", ignored), Spec: spec},
			corev1.Pod{ObjectMeta: meta("unknown", "p"), Spec: spec}, corev1.Pod{ObjectMeta: meta("d8-system", "p"), Spec: spec},
			corev1.Pod{ObjectMeta: meta("kube-system", "p"), Spec: spec}, corev1.Pod{ObjectMeta: meta("kube-evil", "p"), Spec: spec},
		),
	}
	inv.Whose.Namespaces = []string{"listed"}
	const moves, foreign, ignore = "moves ", "foreign ", "ignored "
	for workloads, want := range map[bool]map[string]string{
		false: {"Deployment d8-a/d": moves, "Deployment mine/d": foreign, "Deployment d8-a/past": ignore, "ReplicaSet d8-a/rs": ignore, "Pod d8-a/of-past": ignore,
			"Pod listed/p": "", "Pod d8-evil/p": foreign, "Pod mine/p": foreign + ignore, "Pod unknown/p": foreign, "Pod d8-system/p": "", "Deployment old/d": ignore,
			"Pod kube-system/p": "", "Pod kube-evil/p": foreign},
		true: {"Deployment mine/d": moves, "Pod d8-evil/p": foreign}, // the label of a workload counts too, and only of a workload
	} {
		inv.Whose.Workloads = workloads
		for _, r := range mover().Census(inv, []layout.Name{fleet.Old()}, 0, ":own").References {
			got := ""
			for word, is := range map[string]bool{moves: r.Movable, foreign: r.Foreign} {
				if is {
					got += word
				}
			}
			if r.Ignored {
				got += ignore
			}
			if expected, ok := want[r.User]; ok && got != expected {
				t.Errorf("workloads %v: %s is %q, want %q", workloads, r.User, got, expected)
			}
			delete(want, r.User)
		}
		if len(want) > 0 {
			t.Errorf("workloads %v: not counted: %v", workloads, want)
		}
	}
}

// TestATenantIsNoSource: who needs an image that is missing is named, and that is
// never somebody whom a switch does not wait for.
func TestATenantIsNoSource(t *testing.T) {
	t.Parallel()
	v := fleet.New("web")
	mine := v.Inventory.Deployments[0].DeepCopy() // the first by name
	mine.Namespace, mine.UID = "aaa", "mine"
	past := v.Inventory.Deployments[0].DeepCopy()
	past.Name, past.UID, past.Annotations = "past", "past", map[string]string{v1alpha1.AnnotationIgnore: "true"}
	v.Inventory.Deployments = append(v.Inventory.Deployments, *mine, *past)
	census := mover().Census(v.Inventory, []layout.Name{fleet.Old()}, 0, ":own")
	if got := Sources(v.Inventory, census, ":own")[":1"]; got != "Deployment d8-system/web" {
		t.Errorf(":1 is needed by %q", got)
	}
}

// TestWhoIsElsewhereIsNotWaitedFor: where workloads outside the platform's
// namespaces are moved, they come last, and none of them stops another.
func TestWhoIsElsewhereIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	v := fleet.New("a", "ds1")
	v.Inventory.Whose.Workloads = true
	theirs := fleet.New("b", "c:stuck", "ds2")
	for i := range theirs.Inventory.Deployments {
		d := &theirs.Inventory.Deployments[i]
		d.Namespace, d.UID, d.Labels = "mine", types.UID(d.Name), labels.Set{"heritage": "deckhouse"}
	}
	theirs.Inventory.Pods[0].Namespace = "mine"
	v.Inventory.Deployments = append(v.Inventory.Deployments, theirs.Inventory.Deployments...)
	v.Inventory.Pods = theirs.Inventory.Pods
	m := mover()
	p := m.Measure(v)
	var order []string
	for _, ro := range p.todo {
		order = append(order, ro.String())
	}
	if got := strings.Join(order, " "); got != "Deployment d8-system/a DaemonSet d8-system/ds1 Deployment mine/b" {
		t.Errorf("the order is %s", got)
	}
	if next := p.next(); len(next) != 1 || next[0].GetName() != "a" {
		t.Errorf("begins %v", next)
	}
	if got := fmt.Sprint(p.skipped); !strings.Contains(got, "Deployment mine/c: it was re-pointed and does not come up: Pod c-1") || len(p.underway) > 0 {
		t.Errorf("skipped %s, under way %v", got, p.underway)
	}
	m.leave("b", v.Doc.Switch, "the API server refuses the change: Invalid")
	p = m.Measure(v)
	if slices.ContainsFunc(p.todo, func(ro Rollout) bool { return ro.Foreign }) || !strings.Contains(fmt.Sprint(p.skipped), "mine/b: the API server refuses the change") {
		t.Errorf("is to move %v, skipped %v", p.todo, p.skipped)
	}
	census := m.Census(v.Inventory, []layout.Name{fleet.Old()}, v.Doc.Switch, ":own")
	for _, r := range census.References {
		if r.User == "Deployment mine/b" && r.Movable {
			t.Error("what is refused is waited for")
		}
	}
}
