package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The modes: TLS on both sides, and none.
const (
	secured = "TLS"
	plain   = "plain"
)

func modes() []string { return []string{secured, plain} }

// What is measured once.
const (
	checked = "images checked at 30 ms, multiple of the delay alone"
	idle    = "idle agent, MiB resident"
)

type key struct{ metric, system, mode string }

// results are the values of all rounds, in their order.
type results map[key][]float64

func (r results) add(k key, v float64) { r[k] = append(r[k], v) }

// median is 0 without values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[mid-1] + sorted[mid]) / 2
	}
	return sorted[mid]
}

// pairs are the ratios of two programs, round by round.
func pairs(a, b []float64) []float64 {
	var all []float64
	for i := range min(len(a), len(b)) {
		all = append(all, a[i]/b[i])
	}
	return all
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v == 0:
		return "0"
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// spread is the median, and the smallest and the largest value.
func spread(values []float64) string {
	if len(values) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(median(values)), number(slices.Min(values)), number(slices.Max(values)))
}

// target is what must be reached.
type target struct {
	what  string
	value func(results) []float64 // by round
	limit float64
	below bool // the limit is the most, not the least
}

// targets are those of the issue, all with TLS on both sides.
func targets() []target {
	ratio := func(metric, other string) func(results) []float64 {
		return func(r results) []float64 {
			return pairs(r[key{metric, ours, secured}], r[key{metric, other, secured}])
		}
	}
	return []target{
		{"layer, 1 client: ours / nginx", ratio(speed1, nginx), 1, false},
		{"layer, 16 clients: ours / nginx", ratio(speed16, nginx), 1.2, false},
		{"manifests, 64 clients: ours / nginx", ratio(rate64, nginx), 0.6, false},
		{"manifests, 64 clients: ours / distribution", ratio(rate64, cache), 5, false},
		{"manifest, 1 client, added latency: ours / nginx", func(r results) []float64 {
			return pairs(r.added(mid1, ours, secured), r.added(mid1, nginx, secured))
		}, 1.5, true},
		{above, func(r results) []float64 { return r[key{above, ours, secured}] }, 64, true},
		{idle, func(r results) []float64 { return r[key{idle, ours, secured}] }, 32, true},
		{checked, func(r results) []float64 { return r[key{checked, ours, secured}] }, 1.3, true},
	}
}

// added is what a program takes beyond the upstream alone, by round.
func (r results) added(metric, system, mode string) []float64 {
	var all []float64
	base := r[key{metric, bare, mode}]
	for i, v := range r[key{metric, system, mode}][:min(len(base), len(r[key{metric, system, mode}]))] {
		all = append(all, v-base[i])
	}
	return all
}

func (t target) verdict(values []float64) string {
	switch v := median(values); {
	case t.below && v <= t.limit, !t.below && v >= t.limit:
		return "reached"
	default:
		return "**not reached**"
	}
}

// text is the tables in Markdown.
func (r results) text(s scale, took time.Duration) string {
	var out strings.Builder
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(&out, format, args...) } // a Builder never fails
	say("%d rounds, %d processors, %s, %s. Medians, with the smallest and the largest; a ratio is that of one round.\n", s.rounds, runtime.NumCPU(), runtime.Version(), took.Round(time.Second))
	say("\n## What must be reached\n\n| | measured | must be | |\n|---|---|---|---|\n")
	for _, t := range targets() {
		values := t.value(r)
		if len(values) == 0 {
			continue
		}
		say("| %s | %s | %s %s | %s |\n", t.what, spread(values), map[bool]string{true: "≤", false: "≥"}[t.below], number(t.limit), t.verdict(values))
	}
	for _, mode := range modes() {
		say("\n## %s\n\n| | %s | ours / nginx |\n|---|---|---|---|---|---|\n", map[string]string{secured: "TLS on both sides", plain: "Without TLS"}[mode], strings.Join(columns(), " | "))
		for _, metric := range metrics() {
			say("%s", line(metric, func(system string) []float64 { return r[key{metric, system, mode}] }))
			if metric == mid1 || metric == first {
				say("%s", line("added to the upstream alone", func(system string) []float64 { return r.added(metric, system, mode) }))
			}
		}
	}
	return out.String()
}

// line is one of a table; none if ours was not measured.
func line(metric string, of func(system string) []float64) string {
	if len(of(ours)) == 0 {
		return ""
	}
	var cells []string
	for _, system := range columns() {
		cells = append(cells, spread(of(system)))
	}
	return fmt.Sprintf("| %s | %s | %s |\n", strings.TrimSpace(metric), strings.Join(cells, " | "), spread(pairs(of(ours), of(nginx))))
}

func columns() []string { return []string{bare, nginx, cache, ours} }

func metrics() []string {
	return []string{speed1, cpuGiB1, speed16, cpuGiB16, rate64, mid64, late64, cpuThousand, mid1, first, above}
}

// replace writes the tables that a target of make brings between two lines of a document; the rest is
// written by hand.
func replace(file, target, text string) error {
	begins, ends := "<!-- "+target+": from here -->\n", "<!-- "+target+": to here -->\n"
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	before, rest, ok := bytes.Cut(old, []byte(begins))
	_, after, also := bytes.Cut(rest, []byte(ends))
	if !ok || !also {
		return errors.New(file + " has no place for the tables")
	}
	err = os.WriteFile(file, slices.Concat(before, []byte(begins+"\n"+text+"\n"+ends), after), 0o600) //nolint:gosec // the path is a flag of ours
	if err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return nil
}
