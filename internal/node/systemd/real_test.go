package systemd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/systemd"
)

// boot makes a machine of its own of a few namespaces, with a real systemd and
// units of the test's alone. The group of processes that it may see is one
// that the test made.
const boot = `set -e
echo $$ > "$GROUP/cgroup.procs"
exec unshare --cgroup --mount --pid --net --uts --ipc --fork --kill-child --mount-proc /bin/sh -c '
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir /run/units
umount -R /sys/fs/cgroup
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
mount -o remount,ro /sys/fs/cgroup # or systemd mounts, and fills, the other hierarchies
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
mount -t tmpfs tmpfs /etc/systemd
mount -t tmpfs tmpfs /var/log
mount -t tmpfs tmpfs /dev/shm
mount --bind /dev/null /dev/console
cp "$UNITS"/* /run/units/
exec env -i container=lxc PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units /lib/systemd/systemd --system --log-target=null --show-status=no --unit=default.target
'`

// units are the machine's; each survives its own start.
var units = map[string]string{
	"default.target":     "[Unit]\nWants=docker.service\n",
	"containerd.service": "[Service]\nType=exec\nExecStart=/bin/sleep 1000\nKillMode=process\nDelegate=yes\n",
	"kills.service":      "[Service]\nExecStart=/bin/sleep 1000\nDelegate=yes\n",
	"mixed.service":      "[Service]\nExecStart=/bin/sleep 1000\nKillMode=mixed\nDelegate=yes\n",
	"fails.service":      "[Service]\nType=notify\nExecStart=/bin/false\nKillMode=process\n",
	"hangs.service":      "[Service]\nType=notify\nExecStart=/bin/sleep 1000\nKillMode=process\n",
	"refuses.service":    "[Unit]\nRefuseManualStop=yes\n[Service]\nExecStart=/bin/sleep 1000\nKillMode=process\n",
	"bound.service":      "[Service]\nExecStart=/bin/sleep 1000\nKillMode=process\n",
	"docker.service":     "[Unit]\nBindsTo=bound.service\n[Service]\nExecStart=/bin/sleep 1000\nKillMode=process\n",
}

// TestOnRealSystemd runs TestInside where systemd sees it: it hears nobody
// whose process it cannot see, which on a node is the host's PID namespace.
func TestOnRealSystemd(t *testing.T) {
	t.Parallel()
	root := machine(t)
	pid := filepath.Base(filepath.Dir(root))
	cmd := exec.CommandContext(t.Context(), "nsenter", "--target", pid, "--pid", "--", os.Args[0], "-test.run=^TestInside$", "-test.v")
	cmd.Env = append(os.Environ(), "SYSTEMD_ROOT="+root)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: TestInside") {
		t.Fatal(err)
	}
}

// machine boots one and returns its file system's root.
func machine(t *testing.T) string {
	t.Helper()
	const groups = "/sys/fs/cgroup/systemd"
	if os.Geteuid() != 0 {
		t.Skip("a systemd of our own needs root")
	}
	for _, path := range []string{"/lib/systemd/systemd", groups} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%s is not here, without which no systemd of our own is started", path)
		}
	}
	group, err := os.MkdirTemp(groups, "registry-systemd-")
	if err != nil {
		t.Skip("no group of processes for a systemd of our own:", err)
	}
	dir := t.TempDir()
	for name, text := range units {
		if !strings.Contains(text, "[Unit]\n") {
			text = "[Unit]\n" + text
		}
		text = strings.Replace(text, "[Unit]\n", "[Unit]\nDefaultDependencies=no\n", 1)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/bin/sh", "-c", boot)
	cmd.Env = append(os.Environ(), "GROUP="+group, "UNITS="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its one child, and all of that, go with it
		_ = cmd.Wait()
		for range 100 {
			if clear(group) {
				return
			}
			time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the kernel tells nobody when a group is empty
		}
		t.Errorf("%s was left over", group)
	})
	for range 200 {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err == nil && len(children) > 0 {
			root := "/proc/" + strings.Fields(string(children))[0] + "/root"
			if _, err := os.Stat(root + "/run/systemd/private"); err == nil {
				return root
			}
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // nobody tells when systemd listens
	}
	t.Fatal("systemd did not come up")
	return ""
}

// clear removes a group with all below it; false while processes are in it.
func clear(group string) bool {
	entries, err := os.ReadDir(group)
	if errors.Is(err, os.ErrNotExist) {
		return true
	}
	for _, e := range entries {
		if e.IsDir() {
			clear(filepath.Join(group, e.Name()))
		}
	}
	return os.Remove(group) == nil
}

func TestInside(t *testing.T) {
	t.Parallel()
	root := os.Getenv("SYSTEMD_ROOT")
	if root == "" {
		t.Skip("TestOnRealSystemd runs this within its machine")
	}
	for name, says := range map[string]string{
		"containerd.service": "",
		"kills.service":      "KillMode=control-group",
		"mixed.service":      "KillMode=mixed",
		"refuses.service":    "RefuseManualStop=yes",
		"bound.service":      "docker.service depends on bound.service",
		"none.service":       "no unit none.service",
		"kubepods.slice":     "no service of systemd",
	} {
		err := systemd.Open(root, name).Check(t.Context())
		if says == "" && err != nil || says != "" && (!errors.Is(err, systemd.ErrUnsupported) || !strings.Contains(err.Error(), says)) {
			t.Errorf("%s: %v, want %q", name, err, says)
		}
	}

	u := systemd.Open(root, "containerd.service")
	if err := u.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := sleeper(t)
	if err := u.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second := sleeper(t); second == first {
		t.Errorf("process %d is still there", first)
	}
	for range 8 { // more often than systemd starts a unit that fails
		err := systemd.Open(root, "fails.service").Restart(t.Context())
		if err == nil || !strings.Contains(err.Error(), `ended with "failed" (exit-code)`) && !strings.Contains(err.Error(), "(protocol)") {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := systemd.Open(root, "hangs.service").Restart(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a unit that never comes up: %v", err)
	}
	if err := systemd.Open(root, "none.service").Restart(t.Context()); err == nil {
		t.Error("a unit that is not there was restarted")
	}
}

// sleeper is the process of containerd.service.
func sleeper(t *testing.T) int {
	t.Helper()
	matches, err := filepath.Glob("/sys/fs/cgroup/systemd/registry-systemd-*/system.slice/containerd.service/cgroup.procs")
	if err != nil || len(matches) != 1 {
		t.Fatal(matches, err)
	}
	data, err := os.ReadFile(matches[0])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
