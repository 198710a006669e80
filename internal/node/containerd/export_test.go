package containerd

import "context"

// Look is Discover for a process that need not be a containerd: one in whose
// file system p.Binary would be started.
func Look(ctx context.Context, p Process, version string, o Options) Facts {
	s := survey{Facts: Facts{Runtime: "containerd", Version: version}}
	s.inspect(ctx, p, o)
	return s.Facts
}

// OwnVersion is that of the process's binary.
func (p Process) OwnVersion(ctx context.Context) (string, error) { return p.ownVersion(ctx) }

// Run runs the process's binary.
func (p Process) Run(ctx context.Context, args ...string) ([]byte, error) { return p.run(ctx, args...) }
