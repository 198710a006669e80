package switchover

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// hostile is a megabyte that a terminal would obey, and that would begin a line of
// its own in a condition.
func hostile() string {
	return "\n- node-00: \"1\" → \"2\"\n\x1b[2J\u009b31m\u202e\u2066\u200b\ufeff\u2028\xff\x00" + strings.Repeat("\x1b]0;x\a", 1<<20/6)
}

// fill puts a text into every string below a value, and n items into every slice.
// Values of the types in whole are left alone.
func fill(v reflect.Value, text string, n int, whole ...reflect.Type) {
	for _, t := range whole {
		if v.Type() == t {
			return
		}
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), text, n, whole...)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, n, whole...)
			}
		}
	default:
	}
}

// wantShown fails for a message that is not fit to be shown, or that has a line
// which a text of somebody else made.
func wantShown(t *testing.T, condition, message string) {
	t.Helper()
	if len(message) > mostMessage || !utf8.ValidString(message) {
		t.Errorf("%s has %d bytes, or is no UTF-8", condition, len(message))
	}
	if strings.ContainsFunc(message, func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
		t.Errorf("%s is not printable: %.300q", condition, message)
	}
	if strings.Contains(message, "\n- node-00: \"1\" → \"2\"\n") {
		t.Errorf("%s has a line that somebody else wrote: %.300q", condition, message)
	}
}

// Whatever nodes, registries and tenants say, at every step: each message is
// printable, of bounded size, and its lines are ours.
func TestMessagesOfHostileClusters(t *testing.T) {
	t.Parallel()
	text := hostile()
	for _, next := range append(Plan(Direct), "") {
		if next == names.ConditionPreflight {
			continue // it is done with the step before it; barrier_test.go has its message
		}
		for _, nodes := range []int{1, 30} {
			t.Run(fmt.Sprintf("%s, %d nodes", next, nodes), func(t *testing.T) {
				t.Parallel()
				c := newScene(t, nodes)
				c.setSpec(Direct, registryB())
				if next == "" {
					c.settle()
				} else {
					c.until(next)
				}
				c.turnHostile(text)
				messages := 0
				for _, phase := range []RestartPhase{RestartWaiting, RestartRunning, RestartFailed} {
					for _, about := range []string{"now", "another node"} {
						seen := c.seen
						if phase == RestartWaiting { // else nothing comes after it
							seen.Census.Problem, seen.Platform.Refused = "", nil
						}
						seen.Nodes = nil
						for i, n := range c.seen.Nodes {
							fill(reflect.ValueOf(&n.Report).Elem(), text, 3)
							n.Report.Restart.Phase = phase
							n.Report.Generation = int64(i)
							if about == "now" {
								n.Report.UID, n.Report.BootID = n.UID, n.BootID
							}
							seen.Nodes = append(seen.Nodes, n)
						}
						s := c.p.Advance(c.s, seen)
						for _, condition := range s.Conditions {
							messages++
							wantShown(t, condition.Type, condition.Message)
						}
					}
				}
				if messages == 0 {
					t.Error("there are no conditions")
				}
			})
		}
	}
}

// turnHostile lets everybody lie at once but nodes.
func (c *scene) turnHostile(text string) {
	c.t.Helper()
	o := &c.seen
	kept := []reflect.Type{
		reflect.TypeFor[layout.Layout](), reflect.TypeFor[upstream.Upstream](), reflect.TypeFor[time.Time](), reflect.TypeFor[Target](),
		reflect.TypeFor[[]Node](), reflect.TypeFor[Spec](), reflect.TypeFor[Published](),
	}
	check, proxy := o.Check, o.Proxy
	fill(reflect.ValueOf(o).Elem(), text, 12, kept...)
	o.Check.Fingerprint, o.Check.FailureCount = check.Fingerprint, 12
	o.Proxy.Exists, o.Proxy.Wanted, o.Proxy.Generation = true, 2, proxy.Generation
	o.Platform.Target, o.Census.Live, o.InstallationProblem = c.s.Target, true, text
	for i := range o.Census.References {
		o.Census.References[i].Movable = true
	}
}

// What is said in several places is one line too, and a condition cuts what nobody cut
// before: lines of ours may be many.
func TestAConditionHasABudget(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]Observed{
		"a Secret that names no registry": {InstallationProblem: hostile()},
		"a layout that cannot be read":    {Published: Published{Found: true, Problem: hostile()}},
		"settings that are wrong":         {Installation: registryA(), Spec: Spec{Problem: hostile()}},
	} {
		s := Standard().Advance(State{}, seen)
		if len(s.Conditions) == 0 {
			t.Errorf("%s: there are no conditions", name)
		}
		for _, c := range s.Conditions {
			wantShown(t, name+": "+c.Type, c.Message)
		}
	}
	e := &evaluation{}
	if c := e.conditionOf(names.ConditionFinal, wait(strings.Repeat("- a.example/x: Pod d8-a/b\n", 1<<16))); len(c.Message) > mostMessage {
		t.Errorf("%d bytes", len(c.Message))
	}
}
