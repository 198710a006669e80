package containerdtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/d8-registry/registry/test/harness/parts"
)

// Containerd is one real containerd.
type Containerd struct {
	Version Version
	// Dir holds everything of it, its main configuration ConfigFile as
	// /etc/containerd does, unless a test moves that before it configures;
	// HostsDir is what New sets config_path to.
	Dir, ConfigFile, ConfDir, HostsDir, Socket string
	// BeforeStart, if it is set, runs before each start, as ExecStartPre of a unit
	// does.
	BeforeStart func() error

	binary, path string

	mu      sync.Mutex
	process *process
	starts  int
	pods    int
}

// New prepares the newest containerd, which looks for host directories in
// HostsDir. It skips the test, saying why, where it cannot run.
func New(t testing.TB) *Containerd {
	t.Helper()
	c := NewVersion(t, V2)
	c.Configure(t, "["+c.RegistryTable()+"]\n  config_path = \"@/certs.d\"\n")
	return c
}

// NewVersion prepares a containerd that is as a fresh package leaves it: it
// looks nowhere for host directories, if 1.x, or where 2.x looks by itself.
func NewVersion(t testing.TB, v Version) *Containerd {
	t.Helper()
	parts.Need(t)
	if os.Geteuid() != 0 {
		t.Skip("real containerd needs root")
	}
	// Not t.TempDir: a socket's path has at most 107 characters.
	dir, err := os.MkdirTemp("", "ctd")
	if err != nil {
		t.Fatal(err)
	}
	own := part(t, v.folder())
	c := &Containerd{
		Version: v, Dir: dir, HostsDir: filepath.Join(dir, "certs.d"), Socket: filepath.Join(dir, "c.sock"),
		ConfigFile: filepath.Join(dir, "config.toml"), ConfDir: filepath.Join(dir, "conf.d"),
		binary: filepath.Join(own, "containerd"),
		path:   strings.Join([]string{own, part(t, "runc"), os.Getenv("PATH")}, ":"),
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil {
				t.Logf("the log of containerd %s ends with:\n%s", v, log[max(0, len(log)-4000):])
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.Configure(t, "")
	return c
}

// RegistryTable is the name of the table that says where to look for
// registries, as this version has it.
func (c *Containerd) RegistryTable() string { return c.Version.RegistryTable() }

// Base is the part of the main configuration that says where things are and
// nothing about registries; @ stands for Dir.
func (c *Containerd) Base() string { return c.Version.base() }

// Configure writes the main configuration: Base, then extra, in which @ stands
// for Dir.
func (c *Containerd) Configure(t testing.TB, extra string) {
	t.Helper()
	c.Main(t, c.Base()+extra)
}

// ConfigureImages is Configure with more settings of the plugin that pulls.
func (c *Containerd) ConfigureImages(t testing.TB, settings, extra string) {
	t.Helper()
	images := c.Version.images()
	c.Main(t, strings.Replace(c.Base(), images, images+"  "+settings+"\n", 1)+extra)
}

// Main writes the whole main configuration; @ stands for Dir. To start with
// it, it has to hold what Base does.
func (c *Containerd) Main(t testing.TB, text string) {
	t.Helper()
	name, err := filepath.Rel(c.Dir, c.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	c.Write(t, name, text)
}

// Write puts a file below Dir; @ in the text stands for Dir.
func (c *Containerd) Write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(c.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "@", c.Dir)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Ctr runs this version's own ctr as an administrator does.
func (c *Containerd) Ctr(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctr := filepath.Join(filepath.Dir(c.binary), "ctr")
	cmd := exec.CommandContext(t.Context(), ctr, append([]string{"--address", c.Socket, "--namespace", "k8s.io"}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Dump is the configuration as containerd itself would use it if it were
// started now.
func (c *Containerd) Dump(ctx context.Context) ([]byte, error) {
	return exec.CommandContext(ctx, c.binary, "--config", c.ConfigFile, "config", "dump").Output()
}
