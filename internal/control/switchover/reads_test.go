package switchover

import "testing"

// TestReads: a layout is published in a newer schema once all read it who have said
// anything, and in the older one as soon as one says that it does not.
func TestReads(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*Observed)
		want int
	}{
		"all say so":                   {func(*Observed) {}, 2},
		"no node at all":               {func(o *Observed) { o.Nodes = nil }, 2},
		"an older agent":               {func(o *Observed) { o.Nodes[1].Report.Reads = 0 }, 1},
		"an older proxy":               {func(o *Observed) { o.Proxy.Reads = 1 }, 1},
		"a newer agent":                {func(o *Observed) { o.Nodes[1].Report.Reads = 9 }, 2},
		"one that has not spoken":      {func(o *Observed) { o.Nodes[1].Report = Report{} }, 2},
		"one of an earlier node":       {func(o *Observed) { o.Nodes[1].Report.Reads, o.Nodes[1].UID = 0, "new" }, 2},
		"one without agent":            {func(o *Observed) { o.Nodes[1].Report.Reads, o.Nodes[1].Agent = 0, false }, 2},
		"one that the operator leaves": {func(o *Observed) { o.Nodes[1].Report.Reads, o.Nodes[1].Exclude = 0, true }, 2},
		"one that is away":             {func(o *Observed) { o.Nodes[1].Report.Reads, o.Nodes[1].Ready, o.Nodes[1].NotReadyFor = 0, false, 60e9 }, 2},
		"one that is away for moments": {func(o *Observed) { o.Nodes[1].Report.Reads, o.Nodes[1].Ready = 0, false }, 1},
	} {
		s := newScene(t, 3)
		for i := range s.seen.Nodes {
			s.seen.Nodes[i].Report.Reads = 2
		}
		s.seen.Proxy.Reads = 2
		c.edit(&s.seen)
		if got := s.p.Reads(s.s, s.seen); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
