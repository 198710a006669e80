package switchover

import (
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// theirs are references of tenants, under a name that the platform leaves, to
// images that are nowhere.
func theirs() []Reference {
	return []Reference{
		{Name: layout.NameOf(registryA()), Image: "nope:1", User: "CronJob aaa/x", Namespace: "aaa", Foreign: true},
		{Name: layout.NameOf(registryA()), Image: "nope:2", User: "Pod aaa/y", Namespace: "aaa", Foreign: true},
		{Name: layout.NameOf(registryA()), Image: "nope:3", User: "Pod d8-evil/z", Namespace: "d8-evil", Foreign: true},
	}
}

// TestWhatASwitchDoesNotWaitFor: nothing of a tenant, nothing that the operator
// says to ignore and no node that is left out is asked for; all of it is counted,
// and keeps its name.
func TestWhatASwitchDoesNotWaitFor(t *testing.T) {
	t.Parallel()
	c := atFinal(t)
	c.seen.Census.Lists = 2
	c.seen.Census.References = append(c.seen.Census.References, theirs()...)
	c.seen.Census.References = append(c.seen.Census.References,
		Reference{Name: layout.NameOf(registryA()), Image: "past:1", User: "Job d8-b/past", Namespace: "d8-b", Ignored: true},
		Reference{Name: layout.NameOf(registryA()), Image: "lie:1", User: "sandbox of Node node-01", Node: "node-01"},
		Reference{Name: layout.NameOf(registryA()), Image: "lie:2", User: "sandbox of Node gone", Node: "gone"})
	asked := func() string {
		e := &evaluation{Protocol: c.p, seen: c.seen, s: c.s}
		return strings.Join(e.checkRequest().Images, " ")
	}
	if got := asked(); strings.Contains(got, "nope") || strings.Contains(got, "past") || strings.Contains(got, "lie:2") || !strings.Contains(got, "lie:1") {
		t.Errorf("asked for %s", got)
	}
	c.seen.Nodes[1].Exclude = true
	if got := asked(); strings.Contains(got, "lie") {
		t.Errorf("the node is left out, and its image is asked for: %s", got)
	}
	c.settle()
	if _, routed := c.s.Desired.Layout.Route(layout.NameOf(registryA())); !routed {
		t.Errorf("the name of a tenant is gone: %v", c.s.Desired.Layout.Names())
	}
	want := "Names that are still in use and served by b.example:5000/mirror:\n" +
		"- a.example/deckhouse/ee: Deployment d8-b/flux, Job d8-b/past, sandbox of Node node-01, sandbox of Node gone, " +
		"not the platform's: CronJob aaa/x, Pod aaa/y, Pod d8-evil/z\n" +
		"3 reference(s) of 2 namespace(s) that are not the platform's are not checked: aaa, d8-evil\n" +
		"2 ConfigMap(s) registry.deckhouse.io/required-images are not the platform's, or are ignored, and require nothing\n" +
		"1 reference(s) of the platform are not checked, because of annotation registry.deckhouse.io/ignore\n"
	if got := c.message(names.ConditionFinal); got != want {
		t.Errorf("Final says\n%s\nwant\n%s", got, want)
	}
}

// TestATenantRefusesNoWayBack: the operator's order to return to the legacy format
// is followed, whatever a tenant's pod is called by, and who is left is named once.
func TestATenantRefusesNoWayBack(t *testing.T) {
	t.Parallel()
	for _, platforms := range []bool{true, false} {
		c := direct(t, 2)
		c.seen.Census.References = append(c.seen.Census.References, Reference{
			Name: layout.Fixed(), Image: "alpha:1", User: "Pod mine/holder", Namespace: "mine", Foreign: !platforms})
		c.setSpec(Unmanaged, registryB())
		c.settle()
		c.seen.Published = Published{} // the user deletes it
		c.checked()
		c.looks()
		c.s = c.p.Advance(c.s, c.seen)
		if c.s.Desired.Legacy == platforms {
			t.Errorf("platform's %v: legacy %v\n%s", platforms, c.s.Desired.Legacy, c.conditions())
		}
		if platforms {
			continue
		}
		for i := range c.seen.Nodes {
			c.seen.Nodes[i].Report.Legacy = true
		}
		for range 2 { // its tenants come and go, and the message stays
			c.s = c.p.Advance(c.s, c.seen)
			if got := c.message(names.ConditionFinal); got != "1 user(s) of names that nobody serves any more: Pod mine/holder\n" || !c.s.Ready() {
				t.Errorf("Final says %q\n%s", got, c.conditions())
			}
			c.seen.Census.References = append(c.seen.Census.References, theirs()...)
		}
	}
}
