package controller

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestABrokenVersionIsUndoneInTheMiddleOfASwitch: an upgrade that had come to the
// first node when somebody wished for another registry. The switch waits for that
// node, and the version before is not kept from it by the switch.
func TestABrokenVersionIsUndoneInTheMiddleOfASwitch(t *testing.T) {
	c := newCluster(t)
	c.release("bad")
	c.withKubelets()
	c.sim.set(func(s *simulator) { s.kubelets.broken = ":bad" })
	a, b := c.upstreamA(), c.upstreamB()
	stop := c.start(nil)
	c.wish(settingsOf(a))
	c.reaches(switchover.Direct, a)
	c.eventually("agents", func() bool { return c.agentsRun(a.Base()+":module", 2) })
	stop()
	c.version("bad")
	stop = c.start(nil)
	c.eventually("the first agent is broken", func() bool { return len(c.agents()) == 1 })
	c.wish(settingsOf(b))
	c.eventually("the switch waits for its node", func() bool { return c.waitsAt(c.state(), v1alpha1.ConditionTransition) })
	stop()
	c.version("module")
	c.start(nil)
	c.reaches(switchover.Direct, b)
	c.eventually("agents again", func() bool { return len(c.agents()) == 2 })
	c.wantHistory()
}

// TestWhatUndoesAnUpgrade: each word is a pod, of the version that is wanted or of
// the one whose template is there.
func TestWhatUndoesAnUpgrade(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pods string
		want bool
	}{
		{"", false},
		{"there:ready", false},
		{"there:starting", false}, // it may still come up
		{"there:ready there:crash", false},
		{"wanted:crash there:ready", false},
		{"wanted:ready there:ready", true},
		{"wanted:ready there:crash there:ready", true},
		{"there:crash", true},
		{"other:ready there:crash", true},
		{"proxy:crash there:starting", false},
	} {
		s := &sight{inv: &inventory{}}
		template := func(revision string) corev1.PodTemplateSpec {
			made := corev1.PodTemplateSpec{}
			made.Labels = map[string]string{labelApp: v1alpha1.DaemonSetAgent}
			setAnnotation(&made.ObjectMeta, v1alpha1.AnnotationRevision, revision)
			return made
		}
		for _, word := range strings.Fields(c.pods) {
			revision, state, _ := strings.Cut(word, ":")
			pod := corev1.Pod{ObjectMeta: template(revision).ObjectMeta}
			pod.Namespace = v1alpha1.Namespace
			if revision == "proxy" {
				pod = corev1.Pod{ObjectMeta: template("there").ObjectMeta}
				pod.Namespace, pod.Labels = v1alpha1.Namespace, map[string]string{labelApp: v1alpha1.DeploymentProxy}
			}
			switch state {
			case "ready":
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			case "crash":
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}}}
			}
			s.inv.pods = append(s.inv.pods, pod)
		}
		if got := s.undoes(template("wanted"), template("there")); got != c.want {
			t.Errorf("%s: %v, want %v", c.pods, got, c.want)
		}
		if s.undoes(template("there"), template("there")) {
			t.Errorf("%s: the same version undoes itself", c.pods)
		}
	}
}

// TestTheProxyIsUndoneToo before its turn to move has come: the switch waits for it.
func TestTheProxyIsUndoneToo(t *testing.T) {
	t.Parallel()
	r, doc, s := bare(), moving(), fleet()
	doc.Desired.Own = doc.Desired.Registry.Upstream
	want := r.proxyDeployment(s, doc).Spec.Template
	bad := *want.DeepCopy()
	setAnnotation(&bad.ObjectMeta, v1alpha1.AnnotationRevision, "bad")
	s.proxy = &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: bad}}
	if got := r.proxyTemplateNow(t.Context(), s, doc, want); revisionOf(&got) != "bad" {
		t.Errorf("with nobody broken it is of revision %s", revisionOf(&got))
	}
	pod := corev1.Pod{ObjectMeta: bad.ObjectMeta}
	pod.Namespace = v1alpha1.Namespace
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	s.inv.pods = append(s.inv.pods, pod)
	if got := r.proxyTemplateNow(t.Context(), s, doc, want); revisionOf(&got) != revisionOf(&want) {
		t.Errorf("with a broken one it is of revision %s", revisionOf(&got))
	}
}
