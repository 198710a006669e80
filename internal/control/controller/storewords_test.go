package controller

import (
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/installation"
)

// TestWhatIsSaidOfStores: after the switch users are told what the cache holds, and who of the
// stores is gone; Ready stays True. On the way back nobody waits for a store whose agent is gone,
// although its Node is Ready: it is named until its agent has stopped it.
func TestWhatIsSaidOfStores(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var ahead atomic.Int64
	c.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c.withKubelets()
	stores := c.withStores()
	c.begin()
	a := c.upstreamA()
	c.ask(proxySettings(a))
	c.reaches(switchover.ModeProxy, a)
	whole := regexp.MustCompile(`^3/3 node\(s\) ready, cache holds (\d+) of (\d+) images in use$`)
	c.until("the cache holds all images in use", func(v view) bool {
		found := whole.FindStringSubmatch(v.condition(v1alpha1.ConditionStores).Message)
		return len(found) == 3 && found[1] == found[2] && found[1] != "0"
	})

	c.setReady("store-b", corev1.ConditionFalse)
	c.minutesUntil(&ahead, "a store that is gone is named", func(v view) bool {
		said, ready := v.condition(v1alpha1.ConditionStores), v.condition(v1alpha1.ConditionReady)
		return said.Status == metav1.ConditionTrue && strings.HasPrefix(said.Message, "2/3 node(s) ready") &&
			strings.Contains(said.Message, "\nNot seen to serve:\n- store-b: node is not Ready, since ") && ready.Status == metav1.ConditionTrue &&
			strings.Contains(ready.Message, "Node services of 1 of 3 node(s) are not seen to serve, and pulls go on without them:\n- store-b: node is not Ready, since ")
	})
	c.told("Node services of 1 of 3 node(s) are not seen to serve")
	c.setReady("store-b", corev1.ConditionTrue)
	c.minutesUntil(&ahead, "it is back, and nothing is left to say", func(v view) bool {
		return whole.MatchString(v.condition(v1alpha1.ConditionStores).Message) && v.condition(v1alpha1.ConditionReady).Message == ""
	})

	c.beat("store-b")
	stores["store-b"].alone.Store(true)
	c.ask(settingsOf(a))
	c.until("the store that nobody stops is waited for", func(v view) bool {
		return v.condition(v1alpha1.ConditionCleanupStores).Message == "Stopping node services..."
	})
	c.minutesUntil(&ahead, "its agent is silent: it is named, and not waited for", func(v view) bool {
		said := v.condition(v1alpha1.ConditionCleanupStores)
		return v.ready(switchover.Direct) && said.Status == metav1.ConditionTrue &&
			strings.HasPrefix(said.Message, "Node services may still run on node(s) that are not reached:\n- store-b: its agent is silent since ")
	})
	stores["store-b"].alone.Store(false)
	c.beat("store-b")
	c.until("its agent has stopped it, and nothing is left to say", func(v view) bool {
		return v.ready(switchover.Direct) && v.condition(v1alpha1.ConditionCleanupStores).Message == ""
	})
	c.storesAreGone()
}

// minutesUntil lets minutes of the controller's clock pass until it says something.
func (c *testbed) minutesUntil(ahead *atomic.Int64, what string, ok func(view) bool) {
	c.t.Helper()
	c.until(what, func(v view) bool {
		if ok(v) {
			return true
		}
		ahead.Add(int64(30 * time.Second))
		c.look()
		installation.Pause(300 * time.Millisecond)
		return false
	})
}
