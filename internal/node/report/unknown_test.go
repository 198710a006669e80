package report

import (
	"errors"
	"maps"
	"slices"
	"testing"
)

// An API server refuses a report as a whole for one field that it does not know.
func TestFieldsThatTheClusterDoesNotKnowAreLeftOut(t *testing.T) {
	t.Parallel()
	object := map[string]any{"status": map[string]any{
		"generation": int64(7), "future": "x",
		"containerd": map[string]any{"version": "2.4.2", "future": "x"},
		"scripts":    []any{map[string]any{"name": "a.b]", "future": "x"}, map[string]any{"name": "c"}},
	}}
	refusal := errors.New(`failed to create typed patch object (/m0; registry.deckhouse.io/v1alpha1, Kind=RegistryNode): errors:
  .status.future: field not declared in schema
  .status.containerd.future: field not declared in schema
  .status.scripts[name="a.b"].future: field not declared in schema`)
	if !withoutUnknown(object, refusal) {
		t.Fatal("nothing was taken out")
	}
	status := object["status"].(map[string]any)
	if got := slices.Sorted(maps.Keys(status)); !slices.Equal(got, []string{"containerd", "generation", "scripts"}) {
		t.Errorf("what is left: %v", got)
	}
	if c := status["containerd"].(map[string]any); len(c) != 1 || c["version"] != "2.4.2" {
		t.Errorf("containerd is %v", c)
	}
	if s := status["scripts"].([]any)[0].(map[string]any); len(s) != 1 || s["name"] != "a.b]" {
		t.Errorf("the script is %v", s)
	}
	// The same again would be tried for ever.
	if withoutUnknown(object, refusal) || withoutUnknown(object, errors.New("the server is busy")) {
		t.Error("something was taken out of an object that lacks it, or for another error")
	}
}
