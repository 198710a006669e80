package switchover

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

var (
	dropHistories = flag.Int("drop-histories", 5000, "how many histories to look for what a dropped rule breaks")
	record        = flag.Bool("record", false, "write down the histories in which dropped rules are caught")
	dropSeed      = flag.Bool("drop-trail", false, "tell the history in which a dropped rule is caught")
)

// rule is something without which the promises do not hold. Each is left out
// alone, and the property test must notice. Its number stands in docs/protocol.md.
type rule struct {
	name string
	t    tamper
	// harmless says why nothing breaks without it alone; then nothing may.
	harmless string
}

func product(edit func(*rules)) func(*sim, *Protocol) {
	return func(_ *sim, p *Protocol) { edit(&p.rules) }
}

// byContent is a barrier that compares what nodes serve, not how new it is.
func byContent(s *sim, p *Protocol) {
	p.rules.at = func(_ *evaluation, n Node, generation int64) bool {
		return n.Report.Version != "" && n.Report.Version == s.hashes[generation]
	}
}

// notCrossed is a union in which every name has only its own registries.
func notCrossed(e *evaluation) layout.Layout {
	l := union(e)
	for i, r := range l.Routes {
		var own []upstream.Upstream
		for _, u := range r.Upstreams {
			if r.Name == layout.Fixed() || layout.NameOf(u) == r.Name {
				own = append(own, u)
			}
		}
		if len(own) > 0 {
			l.Routes[i].Upstreams = own
		}
	}
	return l
}

// fromScratch starts over from what deckhouse-registry and ModuleConfig say.
func fromScratch(e *evaluation) {
	generation := max(e.s.Generation, e.highestReport(), e.seen.Published.Layout.Generation)
	e.s = State{Generation: generation}
	e.first()
}

func (p Protocol) setPlan(mode Mode, plan []step) {
	row := p.modes[mode]
	row.plan = plan
	p.modes[mode] = row
}

// doneAtOnce believes a step as soon as it has asked.
func doneAtOnce(_ *sim, p *Protocol) {
	for mode, row := range p.modes {
		plan := slices.Clone(row.plan)
		for i, s := range plan {
			if s.name == names.ConditionImages {
				continue
			}
			plan[i].do = func(e *evaluation) verdict { s.do(e); return done("") }
		}
		p.setPlan(mode, plan)
	}
}

// stopsAtOnce stops the proxy while nodes are still sent there.
func stopsAtOnce(_ *sim, p *Protocol) {
	plan := slices.Clone(p.modes[Unmanaged].plan)
	for i, s := range plan {
		if s.name == names.ConditionCleanup {
			plan[i].do = func(e *evaluation) verdict {
				v := s.do(e)
				e.s.Desired.Proxy = e.s.Desired.Proxy && e.s.FallbackRemoved == 0
				return v
			}
		}
	}
	p.setPlan(Unmanaged, plan)
}

func rulesToDrop() []rule {
	return []rule{
		{name: "R1 generations: barriers and agents compare content", t: tamper{agentsGoBack: true, protocol: byContent}},
		{name: "R2 the state is stored before anything is written", t: tamper{storeLast: true}},
		{name: "R3 the layout is written only over the one that was seen", t: tamper{noFence: true}},
		{name: "R4 every name is served by every upstream", t: tamper{protocol: product(func(r *rules) { r.union = notCrossed })}},
		{name: "R5 names in use are kept", t: tamper{protocol: product(func(r *rules) {
			r.keep = func(e *evaluation) []layout.Name { return e.ownNames(e.s.Target) }
		})}},
		{name: "R6 workloads are matched against every base", t: tamper{oneBase: true}},
		{name: "R7 own workloads move with the switch", t: tamper{noOwn: true}},
		{name: "R8 Final looks before it takes away", t: tamper{protocol: product(func(r *rules) {
			r.mayShrink = func(*evaluation) verdict { return done("") }
		})}},
		{name: "R8 Final looks at the cluster, not at a cache", t: tamper{staleCensus: true}},
		{name: "R8 Final checks the target again", t: tamper{protocol: product(func(r *rules) {
			r.mayShrink = func(e *evaluation) verdict {
				if v := e.rules.safeNow(e); !v.done || !e.seen.Census.Live {
					return wait("")
				}
				return done("")
			}
		})}},
		{name: "R8 Final looks again when the check has ended", t: tamper{oneLook: true}},
		{name: "R8 Final asks the target once more when its check has ended", t: tamper{noLastWord: true}},
		{name: "R8 Final looks at nodes, not at a cache", t: tamper{staleNodes: true}},
		{name: "R9 pull secrets hold old and new", t: tamper{oneSecret: true}},
		{name: "R10 nodes that did not converge are tainted", t: tamper{noTaint: true}},
		{name: "R26 pods may run before the target has answered", t: tamper{protocol: product(func(r *rules) { r.open = serves })}},
		{name: "R27 a taint goes by what is wanted now", t: tamper{protocol: product(func(r *rules) {
			r.frees = func(e *evaluation) int64 { return e.s.SafeGeneration }
		})}},
		{name: "R30 who was away goes back from a layout of Direct too", t: tamper{onlyUnmanaged: true}},
		{name: "R28 a wish that cannot fit is refused", t: tamper{noSizes: true}},
		{name: "R29 a state that is too large is stored with less text", t: tamper{fullTexts: true}},
		{name: "R11 a layout is on disk before it is reported", t: tamper{lateDisk: true}},
		{name: "R12 the barrier is looked at when relied upon", t: tamper{protocol: product(func(r *rules) {
			r.safeNow = func(*evaluation) verdict { return done("") }
		})}},
		{name: "R13 a lost state is rebuilt from what is published", t: tamper{protocol: product(func(r *rules) { r.rebuild = fromScratch })}},
		{name: "R14 reports are about the node as it is now", t: tamper{protocol: product(func(r *rules) {
			r.valid = func(n Node) bool { return n.Report.UID != "" }
		})}},
		{name: "R15 who has lost its report counts", t: tamper{protocol: product(func(r *rules) {
			r.joins = func(e *evaluation, n Node) bool { return n.Tainted && n.Report.UID != n.UID && e.s.SafeGeneration > 0 }
		})}},
		{name: "R15 only who is seen coming joins", t: tamper{allNew: true}},
		{name: "R16 nobody serves what was never published", t: tamper{protocol: product(func(r *rules) {
			r.at = func(_ *evaluation, n Node, generation int64) bool { return n.Report.Generation >= generation }
		})}},
		{name: "R16 who was believed is believed again", t: tamper{protocol: product(func(r *rules) {
			r.recent = func(*evaluation, Belief) bool { return true }
		})}},
		{name: "R16 who serves more than is published says so, proved or not", t: tamper{secretlyAhead: true}},
		{name: "R18 a step is done by what a later pass sees", t: tamper{protocol: doneAtOnce}},
		{name: "R19 nodes forget the proxy before it stops", t: tamper{protocol: stopsAtOnce}},
		{name: "R20 a failed restart stops the others", t: tamper{protocol: product(func(r *rules) {
			r.usesRestartSlot = func(e *evaluation, n Node) bool {
				return usesRestartSlot(e, n) && n.Report.Restart.Phase != RestartFailed
			}
		})}},
		{name: "R21 who goes away while it restarts keeps its place", t: tamper{protocol: product(func(r *rules) {
			r.usesRestartSlot = func(e *evaluation, n Node) bool { return usesRestartSlot(e, n) && n.Ready }
		})}},
		{name: "R22 who boots while it restarts keeps its place", t: tamper{protocol: product(func(r *rules) {
			r.usesRestartSlot = func(e *evaluation, n Node) bool { return usesRestartSlot(e, n) && n.Report.BootID == n.BootID }
		})}},
		{name: "R17 an approval of before a lost state counts", t: tamper{protocol: product(func(r *rules) {
			r.usesRestartSlot = func(e *evaluation, n Node) bool {
				id := n.Report.Restart.ID
				return id != "" && n.Report.UID == n.UID && e.s.ApprovedRestart(n.Name, n.UID) == id
			}
		})}},
		{name: "R23 nodes fetch an image from the target alone", t: tamper{onlyReached: true}},
		{name: "R24 an absent layout changes nothing", t: tamper{absentIsOrder: true}},
	}
}

func TestDroppedRulesAreCaught(t *testing.T) {
	t.Parallel()
	for _, r := range rulesToDrop() {
		t.Run(r.name, func(t *testing.T) {
			expect(t, r, Standard())
		})
	}
}

// expect wants the property test to catch what is broken, or not to if it is
// harmless.
func expect(t *testing.T, r rule, p Protocol) {
	t.Helper()
	n, bad := *dropHistories, uint64(0)
	if r.harmless != "" {
		n = *histories / 5
		bad = search(t, n, p, r.t)
	} else {
		bad = caughtBefore(t, r, p)
	}
	switch {
	case bad == 0 && r.harmless == "":
		t.Errorf("not caught in %d histories", n)
	case bad == 0:
		t.Logf("harmless because %s", r.harmless)
	case r.harmless != "":
		var trail []string
		problem := history(bad, p, r.t, &trail)
		t.Errorf("said to be harmless because %s; caught by history %d: %s\n%s", r.harmless, bad, problem, strings.Join(trail, "\n"))
	default:
		var trail []string
		t.Logf("caught by history %d: %s", bad, history(bad, p, r.t, &trail))
		if *dropSeed {
			for _, line := range trail {
				t.Log(line)
			}
		}
	}
}

// caughtBefore is the history that caught a dropped rule the last time, if it still
// does: it saves the search. Each change of the simulation makes others of them. To
// write them anew: delete the file and run the tests with -record.
func caughtBefore(t *testing.T, r rule, p Protocol) uint64 {
	t.Helper()
	const file = "testdata/caught.txt"
	data, err := os.ReadFile(file)
	if err != nil && !*record {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		number, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if known, err := strconv.ParseUint(number, 10, 64); err == nil && name == r.name && history(known, p, r.t, nil) != "" {
			return known
		}
	}
	bad := search(t, *dropHistories, p, r.t)
	if !*record || bad == 0 {
		return bad
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintln(f, bad, r.name)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return bad
}

// swaps are the plans with two neighbouring steps swapped.
func TestSwappedStepsAreCaught(t *testing.T) {
	t.Parallel()
	harmless := map[string]string{
		"Unmanaged: FinalContainerdConfigReady and CleanupInClusterProxy":           "Switch has moved the proxy's clients, and nodes need it only when their agent is down",
		"Direct: RegistryContainsRequiredImages and ContainerdConfigPreflightReady": "neither asks anything of the cluster",
		"Direct: FinalContainerdConfigReady and CleanupNodeServices":                "stores are asked first and never needed, and the in-cluster proxy stands behind the Service",
		"Proxy: RegistryContainsRequiredImages and ContainerdConfigPreflightReady":  "neither asks anything of the cluster",
		"Proxy: ContainerdConfigPreflightReady and NodeServicesReady":               "stores need nothing of containerd's configuration, and nodes hear nothing of them yet",
		"Proxy: FinalContainerdConfigReady and CleanupInClusterProxy":               "stores stand alone behind the Service since Switch",
		"Unmanaged: CleanupInClusterProxy and CleanupNodeServices":                  "each takes nodes' way to the Service away, and waits for its own clients",
	}
	for _, mode := range []Mode{Direct, ModeProxy, Unmanaged} {
		plan := Standard().modes[mode].plan
		for i := range len(plan) - 1 {
			swapped := slices.Clone(plan)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			p := Standard()
			p.setPlan(mode, swapped)
			name := string(mode) + ": " + plan[i].name + " and " + plan[i+1].name
			t.Run(name, func(t *testing.T) {
				stores := mode == ModeProxy || plan[i+1].name == names.ConditionCleanupStores
				expect(t, rule{name: name, harmless: harmless[name], t: tamper{stores: stores}}, p)
			})
		}
	}
}
