package containerdtest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/containerd"
)

// Containerd is one real containerd 2.x.
type Containerd struct {
	// Dir holds everything of it; HostsDir is its config_path; ConfigFile its
	// main configuration.
	Dir, HostsDir, Socket, ConfigFile string

	binary string
	cmd    *exec.Cmd
}

// base is the part of the configuration that keeps containerd off the host.
const base = `version = 3
root = "@/root"
state = "@/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
  address = "@/c.sock"
[ttrpc]
  address = "@/t.sock"

[plugins.'io.containerd.internal.v1.opt']
  path = "@/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "native"
[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = "linux/` + runtime.GOARCH + `"
  snapshotter = "native"
`

// New prepares a containerd that looks for host directories in HostsDir. It
// skips the test, saying why, where it cannot run.
func New(t testing.TB) *Containerd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("real containerd needs root")
	}
	// Not t.TempDir: a socket's path has at most 107 characters.
	dir, err := os.MkdirTemp("", "ctd")
	if err != nil {
		t.Fatal(err)
	}
	c := &Containerd{
		Dir: dir, HostsDir: filepath.Join(dir, "certs.d"), Socket: filepath.Join(dir, "c.sock"),
		ConfigFile: filepath.Join(dir, "config.toml"), binary: find(t),
	}
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil {
				t.Logf("containerd's log ends with:\n%s", log[max(0, len(log)-4000):])
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.Configure(t, "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = \"@/certs.d\"\n")
	return c
}

// Configure writes the main configuration: where things are, then extra, in
// which @ stands for Dir.
func (c *Containerd) Configure(t testing.TB, extra string) {
	t.Helper()
	c.Write(t, "config.toml", base+extra)
}

// ConfigureImages is Configure with more settings of the plugin that pulls.
func (c *Containerd) ConfigureImages(t testing.TB, settings, extra string) {
	t.Helper()
	const images = "[plugins.'io.containerd.cri.v1.images']\n"
	c.Write(t, "config.toml", strings.Replace(base, images, images+"  "+settings+"\n", 1)+extra)
}

// Write puts a file below Dir; @ in the text stands for Dir.
func (c *Containerd) Write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(c.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	var out []byte
	for _, b := range []byte(text) {
		if b == '@' {
			out = append(out, c.Dir...)
		} else {
			out = append(out, b)
		}
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Start starts containerd and returns when its CRI answers.
func (c *Containerd) Start(t testing.TB) *containerd.Client {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(c.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	c.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), c.binary, "--config", c.ConfigFile) // ends in Stop
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client, err := containerd.Dial(c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, _, err := client.Version(ctx); err != nil {
		t.Fatal(err)
	}
	return client
}

// Stop kills containerd and everything that it started, as a power cut does.
func (c *Containerd) Stop() {
	if c.cmd == nil || c.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	_ = c.cmd.Wait()
	c.cmd = nil
}

// find is the binary that `make parts` built.
func find(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, ".parts", "bin", "containerd")
		if _, err := os.Stat(path); err == nil {
			return path
		} else if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	t.Fatal("containerd is not built; run: make parts")
	return ""
}
