package apiserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// EnvAssets names a directory with kube-apiserver, etcd and kubectl, as
// controller-runtime's tools know it. It goes before the repository's own.
const EnvAssets = "KUBEBUILDER_ASSETS"

// ErrNoBinaries is the error of a machine where the real parts were not built.
var ErrNoBinaries = errors.New("run: make parts")

// Root is the repository's root directory: the nearest one above the working
// directory with a deploy directory next to a go.mod.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if exists(filepath.Join(dir, "go.mod")) && exists(filepath.Join(dir, "deploy")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: no go.mod with a deploy directory above %s", start)
		}
	}
}

// Binary is the path of a real part: from $KUBEBUILDER_ASSETS, or from
// .parts/bin of the repository. The error wraps ErrNoBinaries.
func Binary(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dirs := []string{filepath.Join(root, ".parts", "bin")}
	if assets := os.Getenv(EnvAssets); assets != "" {
		dirs = append([]string{assets}, dirs...)
	}
	for _, dir := range dirs {
		if path := filepath.Join(dir, name); exists(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is in none of %q: %w", name, dirs, ErrNoBinaries)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
