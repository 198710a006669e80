package controller

import (
	"runtime"
	"testing"

	"github.com/d8-registry/registry/test/harness/fleet"
)

// TestAPassIsLinear: with twice as many nodes a pass allocates twice as much. What it
// allocates for each pair of a node and a workload, or a Pod and a workload, would make
// it more. Time is not asserted: BenchmarkPass shows it.
func TestAPassIsLinear(t *testing.T) {
	const some, most = 500, 2.4
	allocates := func(nodes int) float64 {
		c, r := fill(t, nodes), newThinker()
		var before, after runtime.MemStats
		r.pass(t, c) // what is made once
		runtime.ReadMemStats(&before)
		r.pass(t, c)
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	once, twice := allocates(some), allocates(2*some)
	t.Logf("%d nodes, %d Pods: %.1f MB; twice as many: %.1f MB", some, some*fleet.LargePods, once/1e6, twice/1e6)
	if twice > most*once {
		t.Errorf("twice as many nodes take %.1f times the memory", twice/once)
	}
}
