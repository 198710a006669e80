package main

import (
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	t.Chdir("..") // the demo is run from the root
	tests := []struct {
		name string
		env  map[string]string
		want options
		err  string
	}{
		{name: "nothing set", want: options{root: ".", story: "main"}},
		{name: "a story", env: map[string]string{"STORY": "gitops"}, want: options{root: ".", story: "gitops"}},
		{name: "kept", env: map[string]string{"KEEP": "1"}, want: options{root: ".", story: "main", keep: true}},
		{name: "not kept", env: map[string]string{"KEEP": "0"}, want: options{root: ".", story: "main"}},
		{name: "a negative control", env: map[string]string{"BREAK": "order"}, want: options{root: ".", story: "main", broken: "order"}},
		{name: "no such story", env: map[string]string{"STORY": "x"}, err: "STORY=x: there is no such story; there are baseline, broken-restart, gitops, lost-state, main, old-containerd, proxy, reverts, stopped-agent, web-page, wrong-credentials"},
		{name: "the control of a story", env: map[string]string{"BREAK": "store-only"}, want: options{root: ".", story: "proxy", broken: "store-only"}},
		{name: "a control of agents", env: map[string]string{"BREAK": "no-fall-through"}, want: options{root: ".", story: "proxy", broken: "no-fall-through"}},
		{name: "a control of stores", env: map[string]string{"BREAK": "last-byte", "STORY": "proxy"}, want: options{root: ".", story: "proxy", broken: "last-byte"}},
		{name: "the control of another story", env: map[string]string{"BREAK": "store-only", "STORY": "gitops"}, err: "a negative control of STORY=proxy"},
		{name: "no such control", env: map[string]string{"BREAK": "x"}, err: "BREAK=x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := optionsFrom(func(name string) string { return tt.env[name] })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("options are %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestOnlyOurOwnTemplatesMayChangeWithTheRegistry(t *testing.T) {
	t.Parallel()
	for workload, want := range map[string]bool{
		"Deployment d8-system/deckhouse":                true,
		"Deployment d8-system/registry-controller":      true,
		"Deployment d8-monitoring/registry-controller":  false,
		"Deployment d8-monitoring/grafana":              false,
		"StatefulSet d8-system/deckhouse":               false,
		"DaemonSet d8-system/registry-agent":            true,
		"Deployment d8-system/registry-incluster-proxy": true,
	} {
		if got := mayChange(workload); got != want {
			t.Errorf("%s may change: %v, want %v", workload, got, want)
		}
	}
}

func TestTableIsPlainInAPipe(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := &screen{w: &out}
	s.table([][]string{{"phase", "pulls"}, {"a longer title", "5"}})
	if want := "  phase           pulls\n  a longer title  5\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
