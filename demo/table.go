package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// showTables prints what happened, phase by phase.
func (d *demo) showTables() {
	d.out.title("What happened")
	rows := [][]string{{"phase", "seconds", "pulls", "failed", "MB", "names", "templates", "blobs again", "files fixed/other", "agent restarts", "containerd restarts"}}
	for _, p := range d.phases {
		pulls := d.recorder.Pulls(p.title)
		done := 0
		for _, pull := range pulls {
			if pull.Err == nil {
				done++
			}
		}
		rows = append(rows, []string{
			p.title, decimal(p.took.Seconds()), strconv.Itoa(done), strconv.Itoa(len(d.failedIn(p))), decimal(float64(p.bytes) / 1e6), strconv.Itoa(len(p.names)),
			strconv.Itoa(len(p.changed)), strconv.Itoa(p.repeated), fmt.Sprintf("%d/%d", p.filesFixed, p.filesOther),
			strconv.Itoa(p.agentRestarts), strconv.Itoa(sum(p.containerd)),
		})
	}
	d.out.table(rows)
	d.showSteps()
	for _, p := range d.phases {
		if len(p.changed) > 0 && p.direct {
			d.out.line("  templates changed in %q: %s", p.title, strings.Join(p.changed, ", "))
		}
	}
}

// showSteps prints when each step became True, in seconds since its phase began.
func (d *demo) showSteps() {
	rows := [][]string{{"seconds until"}}
	for _, c := range columns() {
		rows[0] = append(rows[0], c.head)
	}
	for _, p := range d.phases {
		if len(p.steps) == 0 {
			continue
		}
		row := []string{p.title}
		for _, c := range columns() {
			cell := "-"
			if i := slices.IndexFunc(p.steps, func(s stepTime) bool { return s.Step == c.step }); i >= 0 {
				cell = decimal(p.steps[i].At.Seconds())
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 {
		d.out.line("")
		d.out.table(rows)
		d.out.line("")
	}
}

type column struct{ head, step string }

// columns are the steps of both plans, in order, with short heads.
func columns() []column {
	return []column{
		{"images", "RegistryContainsRequiredImages"}, {"preflight", "ContainerdConfigPreflightReady"},
		{"stores", "NodeServicesReady"},
		{"transition", "TransitionContainerdConfigReady"}, {"proxy", "InClusterProxyReady"},
		{"switch", "DeckhouseRegistrySwitchReady"}, {"final", "FinalContainerdConfigReady"},
		{"cleanup", "CleanupInClusterProxy"}, {"stores gone", "CleanupNodeServices"}, {"Ready", "Ready"},
	}
}

func decimal(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) }

func sum(counts map[string]int) int {
	all := 0
	for _, n := range counts {
		all += n
	}
	return all
}
