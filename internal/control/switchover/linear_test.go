package switchover

import (
	"fmt"
	"testing"
	"time"
)

// TestManyLeftOut: the operator may leave out any number of nodes. With a look at the
// whole list of them for each node this would take minutes.
func TestManyLeftOut(t *testing.T) {
	t.Parallel()
	const many, within = 50_000, 30 * time.Second
	s := State{Target: Target{Mode: Direct}, SafeGeneration: 1}
	o := Observed{Settings: DefaultSettings()}
	for i := range many {
		n := Node{Name: fmt.Sprintf("n%06d", i), UID: fmt.Sprintf("u%06d", i), Agent: true, Exclude: true}
		o.Nodes, s.Excluded = append(o.Nodes, n), append(s.Excluded, Exclusion{Node: n.Name, UID: n.UID, Generation: 7})
	}
	begun := time.Now()
	e := &evaluation{Protocol: Standard(), seen: o, was: s, s: s}
	e.exclude()
	waiting, of := e.waitingFor(func(Node) bool { return true })
	if took := time.Since(begun); took > within {
		t.Errorf("it took %v", took)
	}
	if len(e.s.Excluded) != many || e.s.Excluded[many-1].Generation != 7 || len(waiting) != 0 || of != 0 {
		t.Errorf("%d are left out, %d of %d are waited for", len(e.s.Excluded), len(waiting), of)
	}
}
