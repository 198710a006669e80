package layout_test

import (
	"fmt"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// In the middle of a switch every name is served by both registries, a name's
// own one first. Afterwards the new registry serves them all.
func Example() {
	old := upstream.Upstream{Host: "old.example.com", Path: "ee", Scheme: upstream.HTTPS}
	next := upstream.Upstream{Host: "new.example.com", Path: "mirror", Scheme: upstream.HTTPS}
	names := []layout.Name{layout.Fixed(), layout.NameOf(old)}

	during := layout.Layout{
		Schema: layout.Schema, Generation: 7, Mode: "Direct", ActiveMode: "Unmanaged", Active: old, Target: next,
		Routes: layout.Cross(names, []upstream.Upstream{old, next}),
	}
	for _, r := range during.Routes {
		fmt.Println(r.Name, "from", r.Upstreams)
	}

	after := during
	after.Generation, after.ActiveMode, after.Active = 8, "Direct", next
	after.Routes = layout.Cross(names, []upstream.Upstream{next})
	fmt.Println("takes nothing away:", after.Covers(during))

	// Nodes and proxies get it as YAML.
	data, err := layout.Encode(after)
	if err != nil {
		fmt.Println(err)
		return
	}
	read, err := layout.Decode(data)
	fmt.Println("generation", read.Generation, err)

	name, rest, _ := read.Match("old.example.com/ee/tool:v1")
	fmt.Println(name, rest)

	// Output:
	// old.example.com/ee from [https://old.example.com/ee https://new.example.com/mirror]
	// registry.d8-system.svc:5001/system/deckhouse from [https://old.example.com/ee https://new.example.com/mirror]
	// takes nothing away: false
	// generation 8 <nil>
	// old.example.com/ee tool:v1
}
