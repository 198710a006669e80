package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// fleet is a platform of Deployments and DaemonSets on the old name; moved ones
// are on the fixed address.
func fleet(names ...string) *sight {
	s := &sight{inv: &inventory{namespaces: map[string]labels.Set{v1alpha1.Namespace: {"heritage": "deckhouse"}}}, world: switchover.Observed{Settings: switchover.DefaultSettings()}}
	for _, n := range names {
		name, state, _ := strings.Cut(n, ":")
		image, annotations := old.Reference(":1"), map[string]string(nil)
		if state != "" {
			image, annotations = layout.Fixed().Reference(":1"), map[string]string{v1alpha1.AnnotationRepointed: "5", v1alpha1.AnnotationAvailable: "1"}
		}
		available := int32(1)
		if state == "rolling" {
			available = 0
		}
		m := metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name, Annotations: annotations}
		selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
		if strings.HasPrefix(name, "ds") {
			s.inv.daemonSets = append(s.inv.daemonSets, appsv1.DaemonSet{ObjectMeta: m,
				Spec:   appsv1.DaemonSetSpec{Selector: selector, Template: podTemplate(image)},
				Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberAvailable: available}})
		} else {
			s.inv.deployments = append(s.inv.deployments, appsv1.Deployment{ObjectMeta: m,
				Spec:   appsv1.DeploymentSpec{Selector: selector, Template: podTemplate(image)},
				Status: appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: available}})
		}
		if state == "stuck" {
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name + "-1", Labels: selector.MatchLabels}, Spec: spec(image)}
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
			s.inv.pods = append(s.inv.pods, pod)
		}
	}
	return s
}

func moving() document {
	u := upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTPS}
	doc := document{Switch: 5}
	doc.Bases = []layout.Name{old, layout.Fixed()}
	doc.Desired.Workloads = layout.Fixed()
	doc.Desired.Repoint = true
	doc.Desired.Registry = switchover.Target{Mode: switchover.Direct, Upstream: u}
	return doc
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
		{"a:stuck b c", ""}, // stop at the first that does not come up
		{"a:rolling ds1", ""},
		{"a:done ds1 ds2 ds3 ds4", "ds1 ds2 ds3"},
		{"a:done ds1:rolling ds2 ds3 ds4", "ds2 ds3"},
		{"a:done ds1:done", ""},
	} {
		p := bare().measure(fleet(strings.Fields(c.have)...), moving())
		var got []string
		for _, ro := range p.next() {
			got = append(got, ro.GetName())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v may begin, want %q", c.have, got, c.want)
		}
	}
}

// TestNothingBeginsWhileNodesMayNotKnowTheName: what is under way goes on, the
// rest waits.
func TestNothingBeginsWhileNodesMayNotKnowTheName(t *testing.T) {
	t.Parallel()
	doc := moving()
	doc.Desired.Repoint = false
	p := bare().measure(fleet("a:done", "b", "ds1"), doc)
	if next := p.next(); len(next) != 0 || len(p.todo) != 2 {
		t.Errorf("%d of %d rollouts begin", len(next), len(p.todo))
	}
}

func TestOnlyANoOfTheAPIServerIsARefusal(t *testing.T) {
	t.Parallel()
	resource := appsv1.Resource("deployments")
	ro := rollout{workload: workload{Object: &appsv1.Deployment{ObjectMeta: inNS("d")}}}
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
		if got := refusal(ro, c.err); (got != "") != c.want {
			t.Errorf("%v: told as %q", c.err, got)
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
		s := fleet(strings.Fields(c.have)...)
		doc := moving()
		s.registrySecret = registryChange(s, doc)
		if got := bare().measure(s, doc).platform(doc); got.Message != c.want || got.Moved || got.Target != doc.Desired.Registry {
			t.Errorf("%s: %q, want %q", c.have, got.Message, c.want)
		}
	}
}

func TestAWorkloadIsDoneWhenItIsAsAvailableAsBefore(t *testing.T) {
	t.Parallel()
	three := int32(3)
	for _, c := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   string
	}{
		{"all of it", func(*appsv1.Deployment) {}, ""},
		{"not observed", func(d *appsv1.Deployment) { d.Generation = 9 }, "not observed"},
		{"not updated", func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 2 }, "2 of 3 Pods have been updated"},
		{"old ones run", func(d *appsv1.Deployment) { d.Status.Replicas = 4 }, "1 outdated"},
		{"not available", func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 2 }, "2 of 3 updated Pods are available"},
		{"as broken as before", func(d *appsv1.Deployment) {
			d.Annotations[v1alpha1.AnnotationAvailable] = "0"
			d.Status.AvailableReplicas, d.Status.Replicas = 0, 4
		}, ""},
		{"as half available as before", func(d *appsv1.Deployment) {
			d.Annotations[v1alpha1.AnnotationAvailable] = "2"
			d.Status.AvailableReplicas = 2
		}, ""},
		{"paused: template only", func(d *appsv1.Deployment) { d.Spec.Paused = true; d.Status.UpdatedReplicas = 0 }, ""},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "d", Annotations: map[string]string{v1alpha1.AnnotationAvailable: "3"}}, Spec: appsv1.DeploymentSpec{Replicas: &three}}
		d.Status = appsv1.DeploymentStatus{Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}
		c.change(d)
		s := &sight{inv: &inventory{}}
		if got, _ := bare().waits(s, workload{Object: d, template: &d.Spec.Template}, 5); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: waits for %q, want %q", c.name, got, c.want)
		}
	}
}

func TestPodsOnAbsentNodesDoNotCount(t *testing.T) {
	t.Parallel()
	s := fleet("ds1:rolling")
	s.inv.daemonSets[0].Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 1, NumberAvailable: 1}
	s.inv.daemonSets[0].Annotations[v1alpha1.AnnotationAvailable] = "2"
	s.inv.pods = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: "ds1-1", Labels: map[string]string{"app": "ds1"}}, Spec: corev1.PodSpec{NodeName: "down"}}}
	for notReady, done := range map[time.Duration]bool{0: false, time.Hour: true} {
		s.world.Nodes = []switchover.Node{{Name: "down", Ready: notReady == 0, NotReadyFor: notReady}}
		if p := bare().measure(s, moving()); (len(p.underway) == 0) != done {
			t.Errorf("NotReady for %v: %d under way", notReady, len(p.underway))
		}
	}
}

// TestWhatFallsIllLaterHoldsUpNothing: a workload that came up in the switch
// and got a wrong image a month later is not the switch's.
func TestWhatFallsIllLaterHoldsUpNothing(t *testing.T) {
	t.Parallel()
	doc := moving()
	doc.Passed = []switchover.Passed{{Step: v1alpha1.ConditionSwitch, Generation: 5}}
	p := bare().measure(fleet("a:stuck", "b"), doc)
	if next := p.next(); len(next) != 1 || next[0].GetName() != "b" {
		t.Errorf("%d rollouts begin, want b", len(next))
	}
}

func TestANamespaceWithoutItsPullSecretWaits(t *testing.T) {
	t.Parallel()
	s := fleet("a")
	s.held = map[string]error{v1alpha1.Namespace: errLost}
	if p := bare().measure(s, moving()); len(p.todo) != 0 {
		t.Errorf("%d to be re-pointed", len(p.todo))
	}
}

// TestImageVolumesMoveToo: a reference that is counted can be moved, or the
// switch would never end.
func TestImageVolumesMoveToo(t *testing.T) {
	t.Parallel()
	s := fleet("a")
	d := &s.inv.deployments[0]
	d.ResourceVersion = "7"
	d.Spec.Template.Spec = spec("other.io/x:1")
	d.Spec.Template.Spec.Volumes = []corev1.Volume{
		{Name: "data"},
		{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: old.Reference("model:1"), PullPolicy: corev1.PullAlways}}},
	}
	p := bare().measure(s, moving())
	if len(p.todo) != 1 {
		t.Fatalf("%d to be re-pointed", len(p.todo))
	}
	before, after := mustJSON(d), mustJSON(change(p.todo[0], moving()))
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

// TestOurOwnDeploymentIsNotFoughtFor: what re-applies the chart keeps its
// image, is listed, and is not waited for.
func TestOurOwnDeploymentIsNotFoughtFor(t *testing.T) {
	t.Parallel()
	for _, manager := range []string{"kubectl", "argocd-controller"} {
		s := fleet(v1alpha1.DeploymentController)
		s.inv.deployments[0].ManagedFields = []metav1.ManagedFieldsEntry{{
			Manager: manager, FieldsType: "FieldsV1",
			FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{"f:image":{}}}}}}}`),
		}}
		doc := moving()
		doc.Desired.Own = upstream.Upstream{Host: "new.io", Path: "d8", Scheme: upstream.HTTPS}
		w, _ := s.controller()
		left := bare().measure(s, doc).left
		if fights := !bare().ownRollout(s, w, doc).none(); fights != (manager == "kubectl") || fights == (len(left) == 1) {
			t.Errorf("%s: re-pointed %t, left %v", manager, fights, left)
		}
	}
}

// TestAUseIsWhenWeSawIt: a proxy whose clock is wrong is used when what it
// tells changes.
func TestAUseIsWhenWeSawIt(t *testing.T) {
	t.Parallel()
	r := bare()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "1"}}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, c := range []struct {
		told string
		want int // the step whose time it is; -1: never used
	}{
		{"", -1},
		{"1999-01-01T00:00:00Z", 1},
		{"1999-01-01T00:00:00Z", 1},
		{"2099-01-01T00:00:00Z", 3},
		{"2099-01-01T00:00:00Z", 3},
		{"1999-01-01T00:00:00Z", 5},
	} {
		pod.Annotations = map[string]string{v1alpha1.AnnotationLastUse: c.told}
		still := map[types.UID]use{}
		got := r.lastUse(still, pod, start.Add(time.Duration(i)*time.Minute))
		r.uses = still
		if want := start.Add(time.Duration(c.want) * time.Minute); got.IsZero() != (c.want < 0) || c.want >= 0 && !got.Equal(want) {
			t.Errorf("step %d: used at %v", i, got)
		}
	}
}

func TestTheOrderBackHasAGenerationOfItsOwn(t *testing.T) {
	t.Parallel()
	doc := document{}
	doc.Generation = 7
	if got := wantedGeneration(&sight{}, doc); got != 0 {
		t.Errorf("nothing is published, and %d is wanted", got)
	}
	doc.Desired.Legacy = true
	if got := wantedGeneration(&sight{}, doc); got != 7 {
		t.Errorf("the order has generation %d", got)
	}
}

func TestAnErrorStandsStill(t *testing.T) {
	t.Parallel()
	reset := func(port int) error {
		return fmt.Errorf("ask: %w", &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: port}, Addr: &net.TCPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 5001}, Err: syscall.ECONNRESET})
	}
	if a, b := withoutSource(reset(40312)), withoutSource(reset(40313)); a.Error() != b.Error() || !strings.Contains(a.Error(), "10.9.0.1:5001") {
		t.Errorf("%v, %v", a, b)
	}
}

func TestOwnTemplates(t *testing.T) {
	t.Parallel()
	r := bare()
	r.cfg.AgentPort = 5001
	doc := moving()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	for scripts, want := range map[string]string{"": "--scripts=on", "off": "--scripts=off"} {
		r.cfg.Scripts = scripts
		pod := r.agentDaemonSet(fleet(), doc).Spec.Template.Spec
		node := pod.Containers[1]
		if !slices.Contains(node.Args, want) || !*node.SecurityContext.Privileged || !pod.HostPID {
			t.Errorf("scripts %q: %v, %v", scripts, node.Args, node.SecurityContext)
		}
		if serve := pod.Containers[0]; serve.SecurityContext.Privileged != nil || len(serve.VolumeMounts) != 1 {
			t.Errorf("what listens may do more than it needs: %v", serve)
		}
	}
	for _, template := range []corev1.PodTemplateSpec{r.agentDaemonSet(fleet(), doc).Spec.Template, r.proxyDeployment(fleet(), doc).Spec.Template} {
		volumes := map[string]bool{}
		for _, v := range template.Spec.Volumes {
			if volumes[v.Name] {
				t.Errorf("volume %s twice", v.Name)
			}
			volumes[v.Name] = true
		}
		for _, container := range template.Spec.Containers {
			for _, mount := range container.VolumeMounts {
				if !volumes[mount.Name] {
					t.Errorf("%s mounts %s, which is not there", container.Name, mount.Name)
				}
			}
			if container.Image != "r.io/d8:own" {
				t.Errorf("%s runs %s: our own workloads never name the fixed address", container.Name, container.Image)
			}
			text := fmt.Sprint(container.Args, container.Env)
			if strings.Contains(text, "SECRET") {
				t.Errorf("%s has a secret in %s", container.Name, text)
			}
		}
	}
}
