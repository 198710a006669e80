package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

// TestKubectl applies the documentation's YAML as it is printed, the way users
// do, and goes through the one trap on the way back.
func TestKubectl(t *testing.T) {
	api := server.Start(t)
	direct, unmanaged := readFile(t, "direct.yaml"), readFile(t, "unmanaged.yaml")
	store(t, api, moduleConfig(t, "deckhouse", "{version: 1}"))

	// Direct by one kind of apply, back by the other: direct is left over.
	mustApply(t, api, direct, "--server-side", "--field-manager=somebody", "--force-conflicts")
	out, err := kubectl(t, api, unmanaged, "apply", "-f", "-")
	if err == nil {
		t.Fatal("a left-over direct section was accepted")
	}
	want := wantOmitted + " It is left over from before; to remove it and set the mode in one step: "
	_, hint, found := strings.Cut(out, want)
	if !found {
		t.Fatalf("got\n  %s\nwant\n  %s", out, want)
	}
	// The remedy is a command; it works as printed.
	command, _, _ := strings.Cut(hint, "\n")
	args := strings.Fields(strings.ReplaceAll(command, "'", ""))
	if out, err := kubectl(t, api, "", args[1:]...); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	mustApply(t, api, unmanaged)

	// The same kind of apply both ways needs no help.
	mustApply(t, api, direct)
	mustApply(t, api, unmanaged)
	mustApply(t, api, direct, "--server-side", "--force-conflicts")
	mustApply(t, api, unmanaged, "--server-side", "--force-conflicts")
}

func mustApply(t *testing.T, api *apiserver.API, yaml string, flags ...string) {
	t.Helper()
	if out, err := kubectl(t, api, yaml, append([]string{"apply", "-f", "-"}, flags...)...); err != nil {
		t.Errorf("apply %v: %v: %s\n%s", flags, err, out, yaml)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
