package containerdtest

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/d8-registry/registry/test/harness/parts"
)

// Version is one of the containerds that nodes run.
type Version string

// V16 is Debian's own 1.6, V17 the last 1.x, V2 the newest.
const (
	V16 Version = "1.6"
	V17 Version = "1.7"
	V2  Version = "2.x"
)

// Versions are all of them, the oldest first.
func Versions() []Version { return []Version{V16, V17, V2} }

// One reports whether it is a containerd 1.x, with one plugin for all of CRI.
func (v Version) One() bool { return v != V2 }

// folder is where `make parts` put its programs.
func (v Version) folder() string {
	if v == V2 {
		return "bin"
	}
	return "containerd-" + string(v)
}

// RegistryTable is the name of the table of the main configuration that says
// where to look for registries.
func (v Version) RegistryTable() string {
	if v.One() {
		return `plugins."io.containerd.grpc.v1.cri".registry`
	}
	return `plugins.'io.containerd.cri.v1.images'.registry`
}

// images is the header of the table of the plugin that pulls.
func (v Version) images() string {
	if v.One() {
		return "[plugins.\"io.containerd.grpc.v1.cri\"]\n"
	}
	return "[plugins.'io.containerd.cri.v1.images']\n"
}

// base is the part of the main configuration that keeps containerd off the
// host and lets it run containers where root may do less than everything.
func (v Version) base() string {
	if v.One() {
		return `version = 2
root = "@/root"
state = "@/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "@/c.sock"
[ttrpc]
  address = "@/t.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "@/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "@/cni"
  bin_dir = "@/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
`
	}
	return `version = 3
root = "@/root"
state = "@/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "@/c.sock"
[ttrpc]
  address = "@/t.sock"

[plugins.'io.containerd.internal.v1.opt']
  path = "@/opt"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  conf_dir = "@/cni"
  bin_dirs = ["@/cni"]
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "native"
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux/` + runtime.GOARCH + `"
  snapshotter = "native"
`
}

// part is a program or folder that `make parts` built.
func part(t testing.TB, name string) string {
	t.Helper()
	parts.Need(t)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".parts", name)
		if _, err := os.Stat(path); err == nil {
			return path
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Fatalf(".parts/%s is not built; run: make parts", name)
	return ""
}
