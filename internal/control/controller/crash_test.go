package controller

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// outcome is what both switches leave.
type outcome struct {
	layouts  []string       // generation and content of each published layout
	restarts map[string]int // pods made per workload
	images   []string
}

// TestACrashAtAnyWriteResumes kills the controller before and after each of
// its writes in both switches. Each write fails twice: once it never
// arrives, once its answer is lost. What is left must be what a controller that
// never crashed leaves, with nothing done twice.
func TestACrashAtAnyWriteResumes(t *testing.T) {
	t.Parallel()
	want := bothSwitches(t, func(c *testbed, reached func() bool) {
		stop := c.start(nil)
		c.eventually("the switch", reached)
		stop()
	})
	kills, lives := 0, 0
	got := bothSwitches(t, func(c *testbed, reached func() bool) {
		for moment := apiserver.Before; !reached(); moment = 1 - moment {
			// One for each life: a client that is cut off stays so.
			faults := apiserver.NewFaultProxy(c.t, c.cfg.REST)
			failed := faults.Fail(1, moment)
			stop := c.start(faults.Config())
			deadline := time.After(timeout)
		waiting:
			for {
				select {
				case <-failed:
					kills++
					break waiting
				case <-deadline:
					c.t.Fatalf("neither a write nor the end of the switch\n%v", c.state())
				case <-time.After(20 * time.Millisecond):
					if reached() {
						break waiting
					}
				}
			}
			stop()
			lives++
			c.t.Logf("%s %v", moment, faults.Writes())
		}
	})
	t.Logf("the controller was killed %d times in %d lives", kills, lives)
	if !slices.Equal(want.layouts, got.layouts) {
		t.Errorf("layouts without crashes %v, with crashes %v", want.layouts, got.layouts)
	}
	if !maps.Equal(want.restarts, got.restarts) {
		t.Errorf("pods made without crashes %v, with crashes %v", want.restarts, got.restarts)
	}
	if !slices.Equal(want.images, got.images) {
		t.Errorf("images without crashes %v, with crashes %v", want.images, got.images)
	}
}

// bothSwitches goes to Direct on B and back to Unmanaged. Run runs the controller
// until a switch has reached its end.
func bothSwitches(t *testing.T, run func(c *testbed, reached func() bool)) (out outcome) {
	t.Helper()
	t.Run("both switches", func(t *testing.T) { out = switchBoth(t, run) }) // a subtest, so that its simulator ends here
	return out
}

func switchBoth(t *testing.T, run func(c *testbed, reached func() bool)) outcome {
	t.Helper()
	c := newCluster(t)
	stop := c.begin()
	stop()
	reached := func(mode switchover.Mode, u upstream.Upstream) func() bool {
		return func() bool {
			v := c.state()
			return v.ready(mode) && v.doc.Active.Upstream == u
		}
	}
	c.ask(settingsOf(c.upstreamB()))
	run(c, reached(switchover.Direct, c.upstreamB()))
	direct := c.image("d8-monitoring", "prometheus")
	c.ask(unmanaged)
	run(c, reached(switchover.Unmanaged, c.upstreamB()))
	out := outcome{restarts: c.restarts(), images: []string{direct[:8], c.image("d8-monitoring", "prometheus")[:8]}}
	c.sim.set(func(s *simulator) {
		for _, l := range s.history {
			out.layouts = append(out.layouts, fmt.Sprintf("%d:%s/%s,%d,%t", l.Generation, l.ActiveMode, l.Mode, len(l.Routes), l.Fallback.Host != ""))
		}
	})
	return out
}
