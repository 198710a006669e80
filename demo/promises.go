package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/d8-registry/registry/test/harness/machine"
)

// mostFailures is how many failed pulls are printed of a phase.
const mostFailures = 5

// errBroken is the error of a story in which a promise did not hold.
var errBroken = errors.New("not all promises held")

// promise is one sentence, and why it did not hold.
type promise struct {
	text string
	held bool
	why  string
}

// mayChange are the workloads whose templates may change when the registry
// does: our own, which name its real address, and Deckhouse.
func mayChange(workload string) bool {
	return slices.Contains([]string{
		"Deployment d8-system/deckhouse", "Deployment d8-system/registry-controller",
		"Deployment d8-system/registry-incluster-proxy", "DaemonSet d8-system/registry-agent",
	}, workload)
}

// promises are those of one phase.
func (d *demo) promises(p *phase) []promise {
	var all []promise
	add := func(text string, held bool, why string, args ...any) {
		all = append(all, promise{text, held, fmt.Sprintf(why, args...)})
	}
	failed := d.failedIn(p)
	add("no pull failed", len(failed) == 0, "%d failed", len(failed))
	if p.mayRestart() {
		bad := slices.DeleteFunc(d.interrupted(p), func(pull machine.Pull) bool { return pull.Retry == nil })
		add("pulls that a restart of containerd cut off succeeded at the next attempt", len(bad) == 0, "%d did not: %v", len(bad), bad)
	}
	perNode, perName := p.want()
	add(fmt.Sprintf("every node pulled at least %d times, %d under every name in use", perNode, perName), p.missing == nil, "%v", p.missing)
	add("no blob of a running image was downloaded again", p.repeated == 0, "%d were", p.repeated)
	add("no agent was restarted", p.agentRestarts == 0, "%d restarts", p.agentRestarts)
	switch {
	case p.free:
	case p.restarts != nil:
		add("containerd was restarted once on each node that needed it, and on no other", maps.Equal(p.restarts, p.containerd), "%v", p.containerd)
	default:
		add("no containerd was restarted where nothing asked for it", len(p.containerd) == 0, "%v", p.containerd)
	}
	if p.direct {
		others := slices.DeleteFunc(slices.Clone(p.changed), mayChange)
		add("no template changed but our own and Deckhouse's", len(others) == 0, "%s", strings.Join(others, ", "))
		add("no file was written under the fixed address's directory", p.filesFixed == 0, "%d were", p.filesFixed)
	}
	return append(all, p.extra...)
}

// mayRestart is true for a phase in which containerd restarts somewhere.
func (p *phase) mayRestart() bool { return p.free || p.restarts != nil }

// interrupted are the pulls of a phase that a restart of containerd cut off.
func (d *demo) interrupted(p *phase) []machine.Pull {
	return slices.DeleteFunc(d.recorder.Failed(p.title), func(pull machine.Pull) bool { return !pull.Interrupted })
}

// failedIn are the pulls of a phase that failed for no good reason: where
// containerd may restart, that is one.
func (d *demo) failedIn(p *phase) []machine.Pull {
	return slices.DeleteFunc(d.recorder.Failed(p.title), func(pull machine.Pull) bool { return p.mayRestart() && pull.Interrupted || p.early(pull) })
}

// early reports whether a pull was for a pod that came to a node before it was open to pods: one
// that tolerates every taint.
func (p *phase) early(pull machine.Pull) bool {
	return pull.Node == newcomer && pull.By != "" && pull.At.Before(p.opened)
}

// expect adds a promise that only this phase makes.
func (p *phase) expect(text string, held bool, why string, args ...any) {
	p.extra = append(p.extra, promise{text, held, fmt.Sprintf(why, args...)})
}

// showPulls prints a phase's pulls, and the first that failed.
func (d *demo) showPulls(p *phase) {
	var pulled, void int
	for _, pull := range d.recorder.Pulls(p.title) {
		switch {
		case pull.Err == nil:
			pulled++
		case pull.Void:
			void++
		}
	}
	failed := d.failedIn(p)
	mark, colour := "✓", green
	if len(failed) > 0 {
		mark, colour = "✗", red
	}
	d.out.step(p.began, mark, colour, "%d pulls, %d failed, under %s", pulled, len(failed), strings.Join(p.names, ", "))
	if void > 0 {
		d.out.line("           %d more failed under names that went out of use while they went on; no pod could ask for those", void)
	}
	if cut := d.interrupted(p); p.mayRestart() {
		d.out.line("           %d were cut off by a restart of containerd, and tried again when it was back", len(cut))
	}
	d.showFailed(failed)
}

func (d *demo) showFailed(failed []machine.Pull) {
	for i, pull := range failed {
		if i == mostFailures {
			d.out.line("             … and %d more", len(failed)-mostFailures)
			return
		}
		d.out.line("             %s", d.out.paint(red, pull.String()))
	}
}

// verdict prints the tables and the promises of all phases.
func (d *demo) verdict() error {
	d.showTables()
	d.out.title("Promises")
	broken := false
	var texts []string
	held := map[string][]string{} // phases in which a promise did not hold
	for _, p := range d.phases {
		for _, promise := range d.promises(p) {
			if !slices.Contains(texts, promise.text) {
				texts = append(texts, promise.text)
			}
			if !promise.held {
				held[promise.text] = append(held[promise.text], p.title+": "+promise.why)
				broken = true
			}
		}
	}
	for _, text := range texts {
		if why := held[text]; why != nil {
			d.out.line("  %s  %s\n         %s", d.out.paint(red, "no "), text, strings.Join(why, "\n         "))
		} else {
			d.out.line("  %s  %s", d.out.paint(green, "yes"), text)
		}
	}
	if broken {
		return errBroken
	}
	return nil
}
