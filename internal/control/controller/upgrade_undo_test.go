package controller

import (
	"testing"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// TestABrokenVersionIsUndoneInTheMiddleOfASwitch: a broken version runs on the first
// node when users ask for another registry. The switch waits for that node, but the
// old version may return there.
func TestABrokenVersionIsUndoneInTheMiddleOfASwitch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.release("bad")
	c.withKubelets()
	c.sim.set(func(s *simulator) { s.kubelets.broken = ":bad" })
	a, b := c.upstreamA(), c.upstreamB()
	stop := c.start(nil)
	c.switchTo(a)
	c.eventually("agents", func() bool { return c.agentsRun(a.Base()+":module", 2) })
	stop()
	c.version("bad")
	stop = c.start(nil)
	c.eventually("the first agent is broken", func() bool { return len(c.agents()) == 1 })
	c.ask(settingsOf(b))
	c.eventually("the switch waits for its node", func() bool { return c.waitsAt(c.state(), v1alpha1.ConditionTransition) })
	stop()
	c.version("module")
	c.start(nil)
	c.reaches(switchover.Direct, b)
	c.eventually("agents again", func() bool { return len(c.agents()) == 2 })
	c.wantHistory()
}
