package switchover

import (
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// TestOurOwnImageAtTheRegistryBefore: the check asks for a comparison when the registry
// is another one, stops on a difference, and does not when there is no answer. Tags that
// differ are told once, after the step.
func TestOurOwnImageAtTheRegistryBefore(t *testing.T) {
	t.Parallel()
	c := direct(t, 2)
	c.seen.Probe = ":own"
	if got := c.p.CheckRequest(c.s, c.seen); !got.Compare.IsZero() {
		t.Errorf("in Direct on A it compares with %v", got.Compare)
	}
	user := registryA()
	user.Credentials.Username = "other"
	c.setSpec(Direct, user)
	c.advance()
	if got := c.p.CheckRequest(c.s, c.seen); got.Upstream != user || !got.Compare.IsZero() {
		t.Errorf("with other credentials of the same registry it compares with %v", got.Compare)
	}
	c.setSpec(Direct, registryB())
	c.advance()
	request := c.p.CheckRequest(c.s, c.seen)
	if request.Compare != registryA() || request.Own != ":own" {
		t.Errorf("the request is %+v", request)
	}
	c.checked()
	c.seen.Check.OwnDiffers = "The module's own image :own is sha256:a at a.example and sha256:b here."
	c.advance()
	c.has(names.ConditionImages, "b.example:5000: The module's own image :own is sha256:a at a.example and sha256:b here.")
	if c.s.passed(names.ConditionImages) || c.s.Desired.Layout.Target == registryB() {
		t.Error("another image of ours passes")
	}
	c.seen.Check.OwnDiffers, c.seen.Check.OwnUnknown = "", "not compared"
	c.advance()
	if !c.s.passed(names.ConditionImages) || !strings.HasSuffix(c.message(names.ConditionImages), "\nnot compared") {
		t.Errorf("a registry that does not answer stops the switch: %q", c.message(names.ConditionImages))
	}
	passed := c.seen.Check.Fingerprint
	for _, of := range []string{"another", passed, passed} {
		c.seen.Compared = Comparison{Fingerprint: of, Differing: 7, First: []string{"a:1", "b:1"}}
		c.advance()
		if n := strings.Count(c.message(names.ConditionImages), "7 tag(s) mean another image than at the registry before: a:1, b:1, ...and 5 more"); (n == 1) != (of == passed) {
			t.Errorf("it is told %d times: %q", n, c.message(names.ConditionImages))
		}
	}
}
