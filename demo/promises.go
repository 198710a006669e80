package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/testcluster"
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
	failed := d.recorder.Failed(p.title)
	add("no pull failed", len(failed) == 0, "%d failed", len(failed))
	perNode, perName := p.want()
	add(fmt.Sprintf("every node pulled at least %d times, %d under every name in use", perNode, perName), p.missing == nil, "%v", p.missing)
	add("no blob of a running image was downloaded again", p.repeated == 0, "%d were", p.repeated)
	add("no agent was restarted", p.agentRestarts == 0, "%d restarts", p.agentRestarts)
	add("no containerd was restarted", p.containerd == 0, "%d restarts", p.containerd)
	if p.direct {
		others := slices.DeleteFunc(slices.Clone(p.changed), mayChange)
		add("no template changed but our own and Deckhouse's", len(others) == 0, "%s", strings.Join(others, ", "))
		add("no file was written under the fixed address's directory", p.filesFixed == 0, "%d were", p.filesFixed)
	}
	return append(all, p.extra...)
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
	failed := d.recorder.Failed(p.title)
	mark, colour := "✓", green
	if len(failed) > 0 {
		mark, colour = "✗", red
	}
	d.out.step(p.began, mark, colour, "%d pulls, %d failed, under %s", pulled, len(failed), strings.Join(p.names, ", "))
	if void > 0 {
		d.out.line("           %d more failed under names that went out of use while they went on; no pod could ask for those", void)
	}
	d.showFailed(failed)
}

func (d *demo) showFailed(failed []testcluster.Pull) {
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
