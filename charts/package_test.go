package charts

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/parts"
)

// The packaged chart names the image by digest if the values say nothing else, in
// the Pods and in the argument from which the controller makes agents and proxy.
func TestThePackagedChart(t *testing.T) {
	t.Parallel()
	parts.Need(t)
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	for version, file := range map[string]string{"v0.1.0": "registry-0.1.0.tgz", "1a2b3c4": "registry-0.0.0-g1a2b3c4.tgz"} {
		out := t.TempDir()
		if text, err := exec.CommandContext(t.Context(), "../hack/chart.sh", out, version).CombinedOutput(); err == nil || !strings.Contains(string(text), "make image") {
			t.Errorf("without an image: %v %s", err, text)
		}
		if err := os.WriteFile(filepath.Join(out, "registry.digest"), []byte(digest+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if text, err := exec.CommandContext(t.Context(), "../hack/chart.sh", out, version).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		packed := filepath.Join(out, file)
		text := mustHelm(t, "template", "registry", packed, "-n", "d8-system", "-f", "testdata/minimal.yaml")
		for _, want := range []string{`image: "registry.example.test/deckhouse/ee/registry@` + digest, `"--image=registry@` + digest} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", file, want)
			}
		}
		if strings.Count(text, "image: ") != strings.Count(text, "ee/registry@"+digest+`"`+"\n") {
			t.Errorf("%s has an image without the digest\n%s", file, text)
		}
		text = mustHelm(t, "template", "registry", packed, "-n", "d8-system", "-f", "testdata/minimal.yaml", "--set", "image=registry:other")
		if strings.Contains(text, digest) || !strings.Contains(text, "ee/registry:other") {
			t.Errorf("%s: the values do not count", file)
		}
	}
}
