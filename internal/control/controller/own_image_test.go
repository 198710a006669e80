package controller

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestAnotherOwnImageStopsTheSwitch: nodes run the module's own image as root. What a
// new registry has under its tag must be what runs. A registry before that is dead
// stops nothing. Other tags that differ are told when the step has passed.
func TestAnotherOwnImageStopsTheSwitch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.begin()
	evil := c.b.PushRandom(t, pathB, "module", 1, 64)
	c.b.PushRandom(t, pathB, "v1", 1, 64)
	digest, err := evil.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c.ask(settingsOf(c.upstreamB()))
	v := c.until("the switch stops", func(v view) bool {
		return strings.Contains(v.condition(v1alpha1.ConditionImages).Message, "The module's own image")
	})
	message := v.condition(v1alpha1.ConditionImages).Message
	t.Log(message)
	for _, part := range []string{c.digest("module") + " at " + c.upstreamA().Base(), digest.String() + " here", c.b.Host()} {
		if !strings.Contains(message, part) {
			t.Errorf("%q lacks %q", message, part)
		}
	}
	if c.secret(v1alpha1.SecretLayout) != nil || v.condition(v1alpha1.ConditionImages).Status != metav1.ConditionFalse {
		t.Error("nodes hear of it")
	}
	c.b.Push(t, pathB, "module", c.images["module"])
	c.reaches(switchover.Direct, c.upstreamB())
	c.until("the other tag is named", func(v view) bool {
		images := v.condition(v1alpha1.ConditionImages)
		return images.Status == metav1.ConditionTrue && strings.Contains(images.Message, "1 tag(s) mean another image than at the registry before: v1")
	})

	c.b.Stop()
	v = c.switchTo(c.upstreamA())
	if message := v.condition(v1alpha1.ConditionImages).Message; !strings.Contains(message, "was not compared with the one of "+c.upstreamB().Base()) {
		t.Errorf("with the other one dead it says %q", message)
	}
}
