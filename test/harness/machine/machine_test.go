package machine_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/machine"
)

// newMachine makes one, with a folder of its own as /run.
func newMachine(t *testing.T, run *machine.Run) *machine.Space {
	t.Helper()
	network, err := machine.NewNetwork(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(run.Path("spaces", "box", "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := network.NewMachine(t.Context(), "box", "/somewhere", []string{"touch /run/set-up"}, machine.Folder{From: "./run", To: "/run"})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newRun(t *testing.T, parent string) *machine.Run {
	t.Helper()
	if missing := machine.Missing(); len(missing) > 0 {
		t.Skip("missing:", missing)
	}
	run, err := machine.NewRun(parent, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Close(false); err != nil {
			t.Error(err)
		}
	})
	return run
}

// inside runs a script on a machine.
func inside(t *testing.T, m *machine.Space, script string) string {
	t.Helper()
	out, err := m.Command(t.Context(), "/bin/sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestMachineIsAHostOfItsOwn(t *testing.T) {
	t.Parallel()
	run := newRun(t, t.TempDir())
	m := newMachine(t, run)
	for script, want := range map[string]string{
		"hostname":            "box",
		"cat /proc/1/comm":    "sh",
		"echo ${PATH%%:*}":    "/somewhere",
		"ls /run/set-up":      "/run/set-up",
		"cat /proc/self/comm": "cat",
		// An orphan is taken in and, when it ends, reaped.
		"pid=$(sh -c 'sleep 0.2 >/dev/null & echo $!'); cut -d' ' -f4 /proc/$pid/stat; sleep 0.5; [ -e /proc/$pid ] || echo gone": "1\ngone",
	} {
		if got := inside(t, m, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	own, err := os.Hostname()
	if err != nil || own == "box" {
		t.Errorf("the name of this machine is %q (%v)", own, err)
	}
}

// TestMachineAfterAPowerCut has the address and the disk of before, and none of
// the processes.
func TestMachineAfterAPowerCut(t *testing.T) {
	t.Parallel()
	run := newRun(t, t.TempDir())
	m := newMachine(t, run)
	inside(t, m, "echo kept >/run/disk; setsid --fork sleep 1000 </dev/null >/dev/null 2>&1; pidof sleep >/dev/null")
	before := processesOf(t, m.PID())
	if len(before) < 3 { // init, its sleep, ours
		t.Fatalf("processes of the machine: %v", before)
	}
	address := m.IP
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
			t.Errorf("process %d outlived its machine", pid)
		}
	}
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m.IP != address || !strings.Contains(inside(t, m, "ip addr"), address.String()+"/") {
		t.Errorf("the address was %s and is %s", address, m.IP)
	}
	if got := inside(t, m, "cat /run/disk"); got != "kept" {
		t.Errorf("the disk holds %q", got)
	}
	listener, err := m.Listen(t.Context(), net.JoinHostPort(address.String(), "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nothing to be done about it
	conn, err := m.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

// killedDir tells the program that is to be killed where its run is.
const killedDir = "TESTCLUSTER_KILLED_DIR"

// TestKilledProgramLeavesNothing kills a program with a machine and control
// groups in the middle: its processes end with it, the next run removes the
// groups.
func TestKilledProgramLeavesNothing(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(killedDir); dir != "" {
		beKilled(t, dir)
		return
	}
	parent := t.TempDir()
	first := newRun(t, t.TempDir()) // skips where machines cannot be made
	_ = first
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	program := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKilledProgramLeavesNothing$")
	program.Env = append(os.Environ(), killedDir+"="+parent)
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	eventually(t, "the machine", func() bool {
		data, err := os.ReadFile(filepath.Join(parent, "pids"))
		for text := range strings.FieldsSeq(string(data)) {
			pid, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return err == nil
	})
	groups := cgroupsOf(t, parent)
	if len(pids) < 3 || len(groups) == 0 {
		t.Fatalf("before the program is killed: processes %v, control groups %v", pids, groups)
	}
	if err := program.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err == nil {
		t.Fatal("the program ended well")
	}
	eventually(t, "the end of the machine's processes", func() bool {
		for _, pid := range pids {
			if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
				return false
			}
		}
		return true
	})
	newRun(t, parent)
	for _, group := range groups {
		if _, err := os.Stat(group); err == nil {
			t.Errorf("%s is left", group)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), parent) {
		t.Errorf("mounts below %s are left (%v):\n%s", parent, err, mounts)
	}
	if left, _ := filepath.Glob(filepath.Join(parent, "*", "spaces")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// beKilled makes a machine with a process in a control group, says so and waits.
func beKilled(t *testing.T, dir string) {
	run := newRun(t, dir)
	m := newMachine(t, run)
	group, err := run.MakeCgroup("box")
	if err != nil {
		t.Fatal(err)
	}
	inside(t, m, "setsid --fork sleep 1000 </dev/null >/dev/null 2>&1; pidof sleep >/dev/null")
	pids := processesOf(t, m.PID())
	var text strings.Builder
	for _, pid := range pids {
		text.WriteString(strconv.Itoa(pid) + "\n")
	}
	for _, tree := range machine.CgroupTrees(t) {
		if err := os.Mkdir(filepath.Join(tree, group, "pod"), 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.Base(tree) == "cpuset" {
			continue // it takes none before its processors are set
		}
		write(t, filepath.Join(tree, group, "pod", "cgroup.procs"), strconv.Itoa(pids[len(pids)-1]))
	}
	write(t, filepath.Join(dir, "pids.new"), text.String())
	if err := os.Rename(filepath.Join(dir, "pids.new"), filepath.Join(dir, "pids")); err != nil {
		t.Fatal(err)
	}
	<-t.Context().Done()
}

// cgroupsOf are the control groups that runs below a folder name.
func cgroupsOf(t *testing.T, parent string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(parent, "*", "cgroups"))
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.FieldsSeq(string(data)) {
			for _, tree := range machine.CgroupTrees(t) {
				if _, err := os.Stat(filepath.Join(tree, name, "pod")); err == nil {
					groups = append(groups, filepath.Join(tree, name))
				}
			}
		}
	}
	return groups
}

// processesOf are the processes of the PID namespace of a process.
func processesOf(t *testing.T, of int) []int {
	t.Helper()
	space, err := os.Readlink("/proc/" + strconv.Itoa(of) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, dir := range all {
		if its, err := os.Readlink(filepath.Join(dir, "ns", "pid")); err == nil && its == space {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-late:
			t.Fatal("waited too long for", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
