package hostsdir

import (
	"fmt"
	"os"

	"github.com/d8-registry/registry/internal/node/durable"
)

// MakeDir opens containerd's host directory. It makes the directory and its
// parents if they are not there.
func MakeDir(path string) (*durable.Dir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil { //nolint:gosec // containerd's own directories have the same mode
		return nil, fmt.Errorf("make host directory: %w", err)
	}
	return OpenDir(path)
}

// OpenDir opens containerd's host directory, and fails with fs.ErrNotExist if
// there is none.
func OpenDir(path string) (*durable.Dir, error) {
	dir, err := durable.OpenDir(path)
	if err != nil {
		return nil, fmt.Errorf("open host directory: %w", err)
	}
	return dir, nil
}
