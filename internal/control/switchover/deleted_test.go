package switchover

import "testing"

// Somebody who deletes the RegistryNode of a node that may be restarting its
// containerd frees no place for another one.
func TestADeletedReportKeepsItsPlace(t *testing.T) {
	t.Parallel()
	s := direct(t, 7)
	for i := range s.seen.Nodes {
		n := &s.seen.Nodes[i]
		n.Name, n.UID, n.Report.UID, n.ControlPlane = "n"+string(rune('0'+i)), "u"+string(rune('0'+i)), "u"+string(rune('0'+i)), i < 3
	}
	s.advance()
	waits(s.seen.Nodes, 3, 4, 5, 6)
	s.advance()
	if got := approvals(s.s); got != "n3 n4 n5" {
		t.Fatalf("approved %q", got)
	}
	reports := map[int]Report{3: s.seen.Nodes[3].Report, 4: s.seen.Nodes[4].Report}
	for i := range reports {
		s.seen.Nodes[i].Report, s.seen.Nodes[i].ApprovedRestart = Report{}, ""
	}
	s.advance()
	s.advance()
	if got := approvals(s.s); got != "n3 n4 n5" {
		t.Errorf("after the deletion %q", got)
	}
	for _, a := range s.s.Desired.Restarts {
		if a.ID != "of-"+a.UID {
			t.Errorf("%+v", a)
		}
	}
	// One reports that it is done, one is left out.
	done := reports[3]
	done.Restart = Restart{}
	s.seen.Nodes[3].Report, s.seen.Nodes[4].Exclude = done, true
	s.advance()
	if got := approvals(s.s); got != "n5 n6" {
		t.Errorf("after the next report %q", got)
	}
}
