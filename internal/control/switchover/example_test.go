package switchover_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

// A cluster that runs on its installation's registry is asked to go Direct.
// Nothing reaches a node before the images and the credentials are checked.
func Example() {
	seen := switchover.Observed{
		Now:          time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC),
		Settings:     switchover.DefaultSettings(),
		Installation: upstream.Upstream{Host: "old.example.com", Path: "deckhouse/ee", Scheme: upstream.HTTPS},
		Spec: switchover.Spec{
			Mode:     switchover.Direct,
			Upstream: upstream.Upstream{Host: "new.example.com", Path: "deckhouse/ee", Scheme: upstream.HTTPS},
		},
		Nodes: []switchover.Node{{Name: "worker-0", UID: "u1", BootID: "b1", Agent: true, Ready: true,
			Report: switchover.Report{UID: "u1", BootID: "b1", Preflight: switchover.PreflightReady}}},
	}
	state := switchover.Standard().Advance(switchover.State{}, seen)
	show(state)

	request := switchover.Standard().CheckRequest(state, seen)
	seen.Check = switchover.CheckReport{Fingerprint: request.Fingerprint(), Total: 157, Done: 157, At: seen.Now}
	state = switchover.Standard().Advance(state, seen)
	show(state)

	// Output:
	// generation 2, layout 0, active Unmanaged, target Direct
	//   RegistryContainsRequiredImages False Initializing
	//   Ready False Transitioning to Direct
	// generation 2, layout 2, active Unmanaged, target Direct
	//   RegistryContainsRequiredImages True new.example.com: all 157 items are checked
	//   ContainerdConfigPreflightReady True
	//   TransitionContainerdConfigReady False Applying configuration to nodes
	//   Ready False Transitioning to Direct
	// new.example.com/deckhouse/ee served by [https://new.example.com/deckhouse/ee https://old.example.com/deckhouse/ee]
	// old.example.com/deckhouse/ee served by [https://old.example.com/deckhouse/ee https://new.example.com/deckhouse/ee]
	// registry.d8-system.svc:5001/system/deckhouse served by [https://old.example.com/deckhouse/ee https://new.example.com/deckhouse/ee]
}

func show(s switchover.State) {
	fmt.Printf("generation %d, layout %d, active %s, target %s\n", s.Generation, s.Desired.Layout.Generation, s.Active.Mode, s.Target.Mode)
	for _, c := range s.Conditions {
		line := fmt.Sprint("  ", c.Type, " ", c.Status)
		if c.Message != "" {
			first, _, _ := strings.Cut(c.Message, "\n")
			line += " " + first
		}
		fmt.Println(line)
	}
	for _, r := range s.Desired.Layout.Routes {
		fmt.Println(r.Name, "served by", r.Upstreams)
	}
}
