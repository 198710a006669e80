package containerdtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Running are the containers and sandboxes whose first process lives: ID, PID
// and start of it. It asks the kernel, so it works while containerd is down,
// and two equal answers mean that all of them ran in between.
func (c *Containerd) Running() []string {
	var out []string
	for id, pid := range c.inits() {
		if start, alive := startOf(pid); alive {
			out = append(out, fmt.Sprintf("%s %d %s", id, pid, start))
		}
	}
	slices.Sort(out)
	return out
}

// inits are the first processes of containers, by container.
func (c *Containerd) inits() map[string]int {
	out := map[string]int{}
	files, _ := filepath.Glob(filepath.Join(c.Dir, "state/io.containerd.runtime.v2.task/k8s.io/*/init.pid")) // the pattern is good
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // gone meanwhile
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			out[filepath.Base(filepath.Dir(file))] = pid
		}
	}
	return out
}

// startOf is when a process started, in ticks since boot; a zombie is dead.
func startOf(pid int) (string, bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// The name is in parentheses and may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const state, start = 0, 19
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return "", false
	}
	return fields[start], true
}

// killContainers ends what containerd left running: shims first, so that
// nobody starts or reports anything more.
func (c *Containerd) killContainers() {
	pids := c.shims()
	for _, pid := range c.inits() {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && exe == pauseProgram {
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	deadline := time.Now().Add(startTimeout)
	for _, pid := range pids {
		for _, alive := startOf(pid); alive && time.Now().Before(deadline); _, alive = startOf(pid) {
			<-time.After(5 * time.Millisecond)
		}
	}
}

// shims are the processes between containerd and its containers: they know
// its socket.
func (c *Containerd) shims() []int {
	var pids []int
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is good
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err != nil || !strings.Contains(string(text), "\x00"+c.Socket+"\x00") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		exe, linkErr := os.Readlink(filepath.Join(filepath.Dir(line), "exe"))
		if err == nil && linkErr == nil && filepath.Base(exe) == "containerd-shim-runc-v2" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unmount takes off what containers had mounted below the folder.
func (c *Containerd) unmount() {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return
	}
	var points []string
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], c.Dir+"/") {
			points = append(points, f[4])
		}
	}
	for _, point := range slices.Backward(points) { // later mounts lie on earlier ones
		_ = syscall.Unmount(point, syscall.MNT_DETACH)
	}
}

// cgroup is the parent of the containers' groups.
func (c *Containerd) cgroup() string { return "/registry-" + filepath.Base(c.Dir) }

// removeCgroups removes the groups of dead containers from every hierarchy.
func (c *Containerd) removeCgroups() {
	var dirs []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*" + c.cgroup()) // the pattern is good
	for _, root := range append(roots, "/sys/fs/cgroup"+c.cgroup()) {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
	}
	deadline := time.Now().Add(startTimeout)
	for _, dir := range slices.Backward(dirs) {
		// A group is busy until the last of the dead was reaped by its parent.
		for errors.Is(os.Remove(dir), syscall.EBUSY) && time.Now().Before(deadline) {
			<-time.After(5 * time.Millisecond)
		}
	}
}
