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
	"github.com/d8-registry/registry/internal/control/switchover"
)

// waiting is a document whose switch waits at Final, with a message.
func waiting(message string) document {
	doc := moving()
	doc.Generation = 7
	doc.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionSwitch, Status: metav1.ConditionTrue},
		{Type: v1alpha1.ConditionFinal, Status: metav1.ConditionFalse, Message: message},
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse},
	}
	return doc
}

// TestCloseLooksThatFailArePaced: the second at once, then ever more rarely,
// and the message stands still meanwhile.
func TestCloseLooksThatFailArePaced(t *testing.T) {
	t.Parallel()
	r, doc := bare(), waiting("an image is missing")
	now := time.Now()
	s := &sight{world: switchover.Observed{Now: now, Census: switchover.Census{Live: true}, FinalCheck: switchover.CheckReport{FailureCount: 1}}}
	if wait, _ := r.look.pause(doc, now); wait != 0 {
		t.Errorf("the first look waits %v", wait)
	}
	var waits []time.Duration
	for range 8 {
		r.looked(s, doc)
		wait, why := r.look.pause(doc, now)
		if waits = append(waits, wait); why != "an image is missing" {
			t.Errorf("it says %q", why)
		}
	}
	if waits[0] != lookMin || waits[1] != 2*lookMin || waits[7] != lookMax {
		t.Errorf("waits %v", waits)
	}
	if wait, _ := r.look.pause(doc, now.Add(lookMax)); wait != 0 {
		t.Errorf("still waits %v", wait)
	}
	changed := doc
	changed.Generation++
	if wait, _ := r.look.pause(changed, now); wait != 0 {
		t.Errorf("a change of mind waits %v", wait)
	}
	r.looked(&sight{}, doc) // a pass without a close look changes nothing
	if wait, _ := r.look.pause(doc, now); wait == 0 {
		t.Error("a pass in between makes it forget")
	}
	s.world.FinalCheck = switchover.CheckReport{}
	if r.looked(s, doc); r.look.failures != 0 {
		t.Error("a look that let the switch go on counts as failed")
	}
}

func TestWordsAreNotStoredAtEveryReport(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		edit func(*document)
		ago  time.Duration
		put  bool // off
	}{
		"a message, a moment later": {func(d *document) { d.Conditions = waiting("2 of 3").Conditions }, time.Second, true},
		"a message, later":          {func(d *document) { d.Conditions = waiting("2 of 3").Conditions }, 3 * time.Second, false},
		"nothing":                   {func(*document) {}, time.Second, false},
		"an approval as well": {func(d *document) {
			d.Conditions = waiting("2 of 3").Conditions
			d.Desired.Restarts = []switchover.Approval{{Node: "a"}}
		}, time.Second, false},
		"a status": {func(d *document) {
			d.Conditions = waiting("2 of 3").Conditions
			d.Conditions[1].Status = metav1.ConditionTrue
		}, time.Second, false},
	} {
		r, before := bare(), waiting("1 of 3")
		r.stored = now.Add(-c.ago)
		after := waiting("1 of 3")
		c.edit(&after)
		said := after.Conditions[1].Message
		wait := r.settleWords(stored{document: before}, &after, now)
		if (wait > 0) != c.put {
			t.Errorf("%s: put off for %v", name, wait)
		}
		if got := after.Conditions[1].Message; c.put && got != "1 of 3" || !c.put && got != said {
			t.Errorf("%s: says %q", name, got)
		}
	}
}

func TestWarningsAreToldOnce(t *testing.T) {
	t.Parallel()
	recorder := events.NewFakeRecorder(10)
	r := bare()
	r.recorder = recorder
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}
	rn := &v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{NodeUID: "u", Warnings: []string{"NO_PROXY lacks 10.0.0.1, 100% of it"}}}
	s := &sight{nodes: []corev1.Node{node}, registryNodes: map[string]*v1alpha1.RegistryNode{"n": rn}}
	r.warn(s)
	r.warn(s)
	if got := <-recorder.Events; !strings.Contains(got, "Warning ContainerdWarning") || !strings.Contains(got, "NO_PROXY lacks 10.0.0.1, 100% of it") {
		t.Errorf("told %q", got)
	}
	rn.Status.Warnings = []string{strings.Repeat("ä", 2000)}
	r.warn(s)
	got := strings.TrimPrefix(<-recorder.Events, "Warning ContainerdWarning ")
	if len(got) > 1024 || !utf8.ValidString(got) || !strings.HasSuffix(got, "ä…") {
		t.Errorf("the API server does not take %d bytes: %q", len(got), got)
	}
	rn.Status.NodeUID = "the node before"
	rn.Status.Warnings = []string{"another"}
	r.warn(s)
	if len(recorder.Events) != 0 {
		t.Errorf("told %q", <-recorder.Events)
	}
}

func TestRestartsAreToldOnce(t *testing.T) {
	t.Parallel()
	recorder := events.NewFakeRecorder(10)
	r := bare()
	r.recorder = recorder
	rn := &v1alpha1.RegistryNode{Status: v1alpha1.RegistryNodeStatus{NodeUID: "u"}}
	s := &sight{
		nodes:         []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}},
		registryNodes: map[string]*v1alpha1.RegistryNode{"n": rn},
	}
	for _, c := range []struct{ phase, want string }{
		{v1alpha1.RestartWaiting, ""},
		{v1alpha1.RestartRunning, "Normal ContainerdRestart containerd is being restarted: because"},
		{v1alpha1.RestartFailed, "Warning ContainerdRestartFailed because"},
	} {
		rn.Status.Restart = &v1alpha1.RestartStatus{ID: "1", Phase: c.phase, Message: "because"}
		r.warn(s)
		r.warn(s)
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
