package main

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/machine"
)

// TestManifestsNameTheImages fails when a digest in the YAML is not that of the
// image it is said to be; -update writes the right ones.
func TestManifestsNameTheImages(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("the digests in the YAML are those of amd64")
	}
	names, digests, err := imageNames()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != 157 {
		t.Errorf("the platform has %d images, want the 157 of the documentation", len(names))
	}
	platform, err := machine.NewPlatform(t.TempDir(), names, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	right := map[string]string{}
	for _, image := range platform.Images {
		right[image.Name] = image.Digest
	}
	if *update {
		rewrite(t, right)
		return
	}
	for name, digest := range digests {
		if right[name] != digest {
			t.Errorf("images.yaml: %s is %s, want %s (go test ./demo -update)", name, digest, right[name])
		}
	}
	for _, file := range []string{"workloads.yaml", "controller.yaml", "gitops.yaml"} {
		data, err := manifests.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(data), -1) {
			if right[m[2]] != m[1] {
				t.Errorf("%s: %s is %s, want %s (go test ./demo -update)", file, m[2], m[1], right[m[2]])
			}
		}
	}
}

var (
	update = flag.Bool("update", false, "write the digests into the YAML")
	named  = regexp.MustCompile(`@(sha256:[0-9a-f]{64}) # (\S+)`)
	listed = regexp.MustCompile(`"([^"]+)": "sha256:[0-9a-f]{64}"`)
)

func rewrite(t *testing.T, right map[string]string) {
	t.Helper()
	for _, file := range []string{"workloads.yaml", "controller.yaml", "gitops.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := named.ReplaceAllStringFunc(string(data), func(s string) string {
			name := named.FindStringSubmatch(s)[2]
			return "@" + right[name] + " # " + name
		})
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("images.yaml")
	if err != nil {
		t.Fatal(err)
	}
	module := ""
	var text strings.Builder
	for line := range strings.Lines(string(data)) {
		if head, ok := strings.CutSuffix(strings.TrimSpace(line), ": {"); ok {
			if err := json.Unmarshal([]byte(head), &module); err != nil {
				t.Fatal(err)
			}
		}
		text.WriteString(listed.ReplaceAllStringFunc(line, func(s string) string {
			image := listed.FindStringSubmatch(s)[1]
			return `"` + image + `": "` + right[module+"/"+image] + `"`
		}))
	}
	if err := os.WriteFile("images.yaml", []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
