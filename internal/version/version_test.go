package version

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestLinker builds a program the way that hack/image does: a -X whose path is
// wrong is ignored without a word.
func TestLinker(t *testing.T) {
	t.Parallel()
	test := filepath.Join(t.TempDir(), "release.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", test,
		"-ldflags", "-X github.com/d8-registry/registry/internal/version.version=v1.2.3", ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), test, "-test.run", "TestVersion", "-test.v").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "version v1.2.3") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if Version() == "" {
		t.Error("no version")
	}
	t.Log("version", Version())
}
