package controller

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/nodes"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// waiting is a document whose switch waits at Final with this message.
func waiting(message string) state.Document {
	doc := fleet.Moving()
	doc.Generation = 7
	doc.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionSwitch, Status: metav1.ConditionTrue},
		{Type: v1alpha1.ConditionFinal, Status: metav1.ConditionFalse, Message: message},
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse},
	}
	return doc
}

// TestCloseLooksArePaced: after the second the pause grows with each look that did not
// end its step, and the reason for an incomplete one stays.
func TestCloseLooksArePaced(t *testing.T) {
	t.Parallel()
	r, doc := &images{}, waiting("an image is missing")
	now := time.Now()
	o := switchover.Observed{Now: now, Census: switchover.Census{Live: true, Problem: "forbidden"}}
	var waits []time.Duration
	for range 9 {
		wait, why := r.live.pause(doc, now)
		if waits = append(waits, wait); (wait > 0) != (why == "an image is missing") {
			t.Errorf("waits %v, and says %q", wait, why)
		}
		r.remember(o, doc)
	}
	if waits[0] != 0 || waits[1] != 0 || waits[2] != liveMin || waits[3] != 2*liveMin || waits[8] != liveMax {
		t.Errorf("waits %v", waits)
	}
	if wait, _ := r.live.pause(doc, now.Add(liveMax)); wait != 0 {
		t.Errorf("still waits %v", wait)
	}
	changed := doc
	changed.Generation++
	if wait, _ := r.live.pause(changed, now); wait != 0 {
		t.Errorf("a change of mind waits %v", wait)
	}
	r.remember(switchover.Observed{}, doc) // a pass without a close look changes nothing
	if wait, _ := r.live.pause(doc, now); wait == 0 {
		t.Error("a pass in between makes it forget")
	}
	if r.remember(o, changed); r.live.looks != 1 {
		t.Error("the looks of another step count")
	}
}

// telling makes Events for nodes as passes do.
func telling(recorder events.EventRecorder) func(*cluster.Snapshot) {
	c := fleet.Client()
	c.Events.Recorder = recorder
	r, k := &reports{cluster: c}, nodes.NewKeeper(c, switchover.Standard())
	return func(there *cluster.Snapshot) {
		r.warn(func(first func(...any) bool) { k.Warn(there, first) })
	}
}

func TestWarningsAreToldOnce(t *testing.T) {
	t.Parallel()
	recorder := events.NewFakeRecorder(10)
	warn := telling(recorder)
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}
	rn := &v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{NodeUID: "u", Warnings: []string{"NO_PROXY lacks 10.0.0.1, 100% of it"}}}
	s := &cluster.Snapshot{Nodes: []corev1.Node{node}, RegistryNodes: map[string]*v1alpha1.RegistryNode{"n": rn}}
	warn(s)
	warn(s)
	if got := <-recorder.Events; !strings.Contains(got, "Warning ContainerdWarning") || !strings.Contains(got, "NO_PROXY lacks 10.0.0.1, 100% of it") {
		t.Errorf("told %q", got)
	}
	rn.Status.Warnings = []string{strings.Repeat("ä", 2000)}
	warn(s)
	got := strings.TrimPrefix(<-recorder.Events, "Warning ContainerdWarning ")
	if len(got) > 1024 || !utf8.ValidString(got) || !strings.HasSuffix(got, "ä…") {
		t.Errorf("the API server does not take %d bytes: %q", len(got), got)
	}
	rn.Status.NodeUID = "the node before"
	rn.Status.Warnings = []string{"another"}
	warn(s)
	if len(recorder.Events) != 0 {
		t.Errorf("told %q", <-recorder.Events)
	}
}

func TestRestartsAreToldOnce(t *testing.T) {
	t.Parallel()
	recorder := events.NewFakeRecorder(10)
	warn := telling(recorder)
	rn := &v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{NodeUID: "u"}}
	s := &cluster.Snapshot{
		Nodes:         []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}},
		RegistryNodes: map[string]*v1alpha1.RegistryNode{"n": rn},
	}
	for _, c := range []struct{ phase, want string }{
		{v1alpha1.RestartWaiting, ""},
		{v1alpha1.RestartRunning, "Normal ContainerdRestart containerd is being restarted: because"},
		{v1alpha1.RestartFailed, "Warning ContainerdRestartFailed because"},
	} {
		rn.Status.Restart = &v1alpha1.RestartStatus{ID: "1", Phase: c.phase, Message: "because"}
		warn(s)
		warn(s)
		if c.want != "" {
			if got := <-recorder.Events; got != c.want {
				t.Errorf("%s: %q, want %q", c.phase, got, c.want)
			}
		}
		if n := len(recorder.Events); n != 0 {
			t.Errorf("%s: %d more", c.phase, n)
		}
	}
}
