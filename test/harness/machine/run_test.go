package machine_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/machine"
)

// TestRunRemovesWhatAKilledOneLeft plays a run whose program was killed: its
// process and folder go, a process that only has the recorded id stays.
func TestRunRemovesWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dir := filepath.Join(parent, "abcdef")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left, reused := sleeper(t), sleeper(t)
	const someoneElses = "1"
	write(t, filepath.Join(dir, "owner"), fmt.Sprintf("%d %s\n", reused.Process.Pid, someoneElses))
	write(t, filepath.Join(dir, "processes"), fmt.Sprintf("%d %s\n%d %s\n",
		left.Process.Pid, startTime(t, left.Process.Pid), reused.Process.Pid, someoneElses))

	r, err := machine.NewRun(parent, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder of the killed run is still there: %v", err)
	}
	if err := left.Wait(); err == nil {
		t.Error("the process of the killed run was not killed")
	}
	if state := field(t, reused.Process.Pid, 0); state == "Z" {
		t.Error("a process that got the id of another one was killed")
	}
	if err := r.Close(false); err != nil {
		t.Error(err)
	}
}

func TestRunLeavesARunningOneAlone(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	first, err := machine.NewRun(parent, log)
	if err != nil {
		t.Fatal(err)
	}
	second, err := machine.NewRun(parent, log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.Dir); err != nil {
		t.Errorf("the folder of a running run is gone: %v", err)
	}
	for _, r := range []*machine.Run{first, second} {
		if err := r.Close(false); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(r.Dir); !os.IsNotExist(err) {
			t.Errorf("the run's folder is still there: %v", err)
		}
	}
}

func TestClosingARunStopsItsProcesses(t *testing.T) {
	t.Parallel()
	r, err := machine.NewRun(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.StartProcess(machine.Command{Name: "stubborn", Path: "/bin/sh", Args: []string{"-c", "trap '' TERM; while :; do sleep 1; done"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(false); err != nil {
		t.Error(err)
	}
	if p.Running() {
		t.Error("the process is still running")
	}
	if _, err := r.StartProcess(machine.Command{Name: "late", Path: "/bin/true"}); err == nil {
		t.Error("a process was started after the end of the run")
	}
}

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// startTime is the start time as the ledger has it.
func startTime(t *testing.T, pid int) string { t.Helper(); return field(t, pid, 19) }

func field(t *testing.T, pid, n int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return strings.Fields(rest)[n]
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
