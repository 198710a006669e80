package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const ownerFile = "owner"

// Run is one run of the harness: a folder that holds all its files, and the
// processes it started. Close undoes everything.
type Run struct {
	// ID names the run in folders and interfaces: 6 hex digits.
	ID string
	// Dir is the run's folder, absolute.
	Dir string
	log *slog.Logger

	mu        sync.Mutex
	processes []*Process // in the order in which they were started
	closers   []func()
	closed    bool
}

// Missing says what this machine lacks to run a cluster, one sentence each;
// empty when nothing is missing.
func Missing() []string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root: network and mount namespaces are made")
	}
	for _, tool := range []struct{ name, from string }{{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"mount", "mount"}, {"sleep", "coreutils"}} {
		if !found(tool.name) {
			missing = append(missing, fmt.Sprintf("%s (Debian package %s)", tool.name, tool.from))
		}
	}
	return missing
}

func found(tool string) bool {
	for _, dir := range filepath.SplitList(os.Getenv("PATH") + ":/usr/sbin:/sbin") {
		if info, err := os.Stat(filepath.Join(dir, tool)); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// NewRun makes a run's folder under parent, after removing what killed runs
// left there.
func NewRun(parent string, log *slog.Logger) (*Run, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return nil, fmt.Errorf("folder of runs: %w", err)
	}
	if err := RemoveLeftovers(parent, log); err != nil {
		return nil, err
	}
	var id [3]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("name a run: %w", err)
	}
	r := &Run{ID: hex.EncodeToString(id[:]), log: log}
	r.Dir = filepath.Join(parent, r.ID)
	if err := os.MkdirAll(filepath.Join(r.Dir, "logs"), 0o700); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	started, err := startTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	if err := r.record(ownerFile, os.Getpid(), started); err != nil {
		return nil, err
	}
	return r, nil
}

// Path is a path below the run's folder.
func (r *Run) Path(parts ...string) string {
	return filepath.Join(append([]string{r.Dir}, parts...)...)
}

// LogEnds is how the log of each process ends, that many bytes of it.
func (r *Run) LogEnds(most int) string {
	var all strings.Builder
	logs, err := filepath.Glob(r.Path("logs", "*"))
	for _, path := range logs {
		var data []byte
		if data, err = os.ReadFile(path); err != nil {
			break
		}
		fmt.Fprintf(&all, "%s:\n%s\n", filepath.Base(path), data[max(0, len(data)-most):])
	}
	if err != nil {
		fmt.Fprintf(&all, "read logs: %v\n", err)
	}
	return all.String()
}

// OnClose has f called by Close before processes are stopped, last one first.
func (r *Run) OnClose(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, f)
}

// Close kills every process, last started first, and removes the folder. It may
// be called more than once. With keepFiles the folder stays, for a look at logs.
func (r *Run) Close(keepFiles bool) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	processes, closers := r.processes, r.closers
	r.mu.Unlock()
	for i := len(closers) - 1; i >= 0; i-- {
		closers[i]()
	}
	// Nothing they could still write matters: the folder goes too.
	for i := len(processes) - 1; i >= 0; i-- {
		processes[i].Kill()
	}
	if err := removeCgroups(r.Dir); err != nil {
		return err
	}
	if keepFiles {
		// The processes are gone: nothing is left to be found by a later run.
		return os.Remove(r.Path(ownerFile))
	}
	if err := os.RemoveAll(r.Dir); err != nil {
		return fmt.Errorf("remove the run's folder: %w", err)
	}
	return nil
}

// record appends a process to a ledger file of the run.
func (r *Run) record(file string, pid int, started uint64) error {
	f, err := os.OpenFile(r.Path(file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("record process %d: %w", pid, err)
	}
	_, err = fmt.Fprintf(f, "%d %d\n", pid, started)
	return errors.Join(err, f.Close())
}

// RemoveLeftovers removes the folders and processes of runs whose program is
// gone. A process is only killed if its id and start time are those recorded.
func RemoveLeftovers(parent string, log *slog.Logger) error {
	owners, err := filepath.Glob(filepath.Join(parent, "*", ownerFile))
	if err != nil {
		return fmt.Errorf("look for earlier runs: %w", err)
	}
	for _, owner := range owners {
		if len(alive(owner)) > 0 {
			continue // that run is still going on
		}
		dir := filepath.Dir(owner)
		if err := endProcesses(filepath.Join(dir, processFile), log); err != nil {
			return err
		}
		if err := removeCgroups(dir); err != nil {
			return err
		}
		log.Info("removing the folder of an earlier run", "dir", dir)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the folder of an earlier run: %w", err)
		}
	}
	return nil
}

// endProcesses kills the recorded processes and returns when they are gone, a
// machine's with all that ran in it: what they still write to the run's folder
// would keep that from being removed.
func endProcesses(ledger string, log *slog.Logger) error {
	for _, pid := range alive(ledger) {
		log.Info("killing a process of an earlier run", "pid", pid)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d of an earlier run: %w", pid, err)
		}
	}
	for late := time.After(stopAfter); len(alive(ledger)) > 0; {
		select {
		case <-late:
			return fmt.Errorf("processes %v of an earlier run do not end", alive(ledger))
		case <-time.After(pollEvery):
		}
	}
	return nil
}

// alive returns the recorded processes of a ledger file that still exist.
func alive(ledger string) []int {
	data, err := os.ReadFile(ledger)
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.Lines(string(data)) {
		pidText, startedText, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(pidText)
		if err != nil || pid <= 1 {
			continue
		}
		if started, err := startTime(pid); err == nil && strconv.FormatUint(started, 10) == startedText {
			pids = append(pids, pid)
		}
	}
	return pids
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot: with the
// pid it identifies a process. A zombie counts as gone.
func startTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	// The command, in parentheses, may hold spaces.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, fmt.Errorf("start time of process %d: it has ended", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// waitUntil calls done every 50 ms until it returns nil; the last error is
// returned when ctx ends first.
func waitUntil(ctx context.Context, what string, done func(context.Context) error) error {
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		if waitErr := pause(ctx, pollEvery); waitErr != nil {
			return fmt.Errorf("wait for %s: %w (%w)", what, err, waitErr)
		}
	}
}
