package nodescript

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// Host is the way to the node itself, on which scripts run.
type Host struct {
	// Root is the host's root directory as seen from here: "/" where the agent
	// runs on the host itself, "/proc/1/root" in a container with the host's
	// process IDs.
	Root string
	// PID is a process in the host's namespaces, by its number in the host's /proc.
	// 0 says that this program is in them.
	PID int
}

// FindHost finds out whether this process runs on the host itself or in a
// container of it. In a container it needs the host's PID namespace.
func FindHost() (Host, error) {
	var spaces [2]string
	for i, who := range []string{"self", "1"} {
		space, err := os.Readlink("/proc/" + who + "/ns/mnt")
		if err != nil {
			return Host{}, fmt.Errorf("find out whether this is the host or a container of it, which takes a privileged container with the host's process IDs: %w", err)
		}
		spaces[i] = space
	}
	if spaces[0] == spaces[1] {
		return Host{Root: "/"}, nil
	}
	return Host{Root: "/proc/1/root", PID: 1}, nil
}

// binDirs are the directories in which a host may have its programs.
func binDirs() []string {
	return []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/run/current-system/sw/bin"}
}

// program is where the host has a program, as the host sees it.
func (h Host) program(name string) (string, error) {
	for _, dir := range binDirs() {
		info, err := os.Stat(filepath.Join(h.Root, dir, name))
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return dir + "/" + name, nil
		}
	}
	return "", fmt.Errorf("the host has no %s in %v", name, binDirs())
}

// Command is a program of the host that runs there, in a process group of its own.
// path and args are as the host sees them.
func (h Host) Command(ctx context.Context, path string, args ...string) (*exec.Cmd, error) {
	args = append([]string{path}, args...)
	if h.PID != 0 {
		enter, err := h.program("nsenter")
		if err != nil {
			return nil, err
		}
		args = append([]string{enter, "-t", strconv.Itoa(h.PID), "-m", "-u", "-i", "-n", "-p", "--"}, args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if filepath.Clean(h.Root) != "/" {
		cmd.SysProcAttr.Chroot = h.Root
	}
	cmd.Dir = "/"
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd, nil
}
