package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/d8-registry/registry"

// programs are what the image holds.
func programs() []string {
	return []string{"registry-agent", "registry-controller", "registry-proxy", "registry-store"}
}

// compile builds our programs into a folder. Nothing of the machine gets into
// them: no paths, no state of the work tree, no environment of the builder's.
func compile(ctx context.Context, source, platform, version, to string) error {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return fmt.Errorf("platform %q is not like linux/amd64", platform)
	}
	if err := os.MkdirAll(to, 0o750); err != nil {
		return fmt.Errorf("make %s: %w", to, err)
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-mod=readonly",
		"-ldflags", "-s -w -X " + module + "/internal/version.version=" + version, "-o", to + string(filepath.Separator)}
	for _, program := range programs() {
		args = append(args, "./cmd/"+program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch,
		"GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s: %w\n%s", platform, err, out)
	}
	return nil
}
