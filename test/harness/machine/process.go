package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	processFile = "processes"
	// stopAfter is how long a process may take to end when time matters.
	stopAfter = 5 * time.Second
	pollEvery = 50 * time.Millisecond
)

// Command is a process to start.
type Command struct {
	// Name names the log file; a later process of the same name appends to it.
	Name string
	Path string
	Args []string
	// Env is the whole environment, nothing is inherited but PATH.
	Env []string
	// Space is where it runs; nil: in the host's namespaces.
	Space *Space
	// Unshare starts it in new network and mount namespaces.
	Unshare bool
	// Machine also starts it as process 1 of a new PID namespace, with a host
	// name and shared memory of its own.
	Machine bool
	// Dir is its working directory; the root if empty.
	Dir string
}

// Process is a process of a run. It dies with the program that started it.
type Process struct {
	Name string
	PID  int
	Log  string // path of the file that holds its output
	done chan struct{}
	err  error // after done
	run  *Run
}

// StartProcess starts a command; its output goes to logs/NAME.log.
func (r *Run) StartProcess(c Command) (*Process, error) {
	logFile := r.Path("logs", c.Name+".log")
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer out.Close() //nolint:errcheck // the process has its own handle
	argv := append([]string{c.Path}, c.Args...)
	if c.Space != nil {
		argv = append(c.Space.enter(), argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // Stop ends it, in order
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Env = append([]string{"PATH=" + searchPath(c.Space)}, c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for us: we stop the others in order
		Pdeathsig: syscall.SIGKILL,
	}
	if c.Unshare {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS | syscall.CLONE_NEWNET
	}
	if c.Machine {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("start %s: the run is over", c.Name)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p := &Process{Name: c.Name, PID: cmd.Process.Pid, Log: logFile, done: make(chan struct{}), run: r}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	r.processes = append(r.processes, p)
	started, err := startTime(p.PID)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: it ended at once: %w", c.Name, err), p.tail())
	}
	return p, r.record(processFile, p.PID, started)
}

func searchPath(s *Space) string {
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if s != nil && s.parts != "" {
		path = s.parts + ":" + path
	}
	return path
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the process at once, as a crash would.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL) // it may just have ended
		<-p.done
	}
}

// Stop asks the process to end, and kills it and its children when it does not
// do so in time.
func (p *Process) Stop(within time.Duration) error {
	if !p.Running() {
		return nil
	}
	_ = syscall.Kill(p.PID, syscall.SIGTERM) // it may just have ended
	select {
	case <-p.done:
	case <-time.After(within):
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL) // children that stayed
	select {
	case <-p.done:
		return nil
	case <-time.After(stopAfter):
		return fmt.Errorf("stop %s: process %d does not end", p.Name, p.PID)
	}
}

// tail is the end of the log as an error, to say why something did not start.
func (p *Process) tail() error {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.Name, err)
	}
	const most = 1500
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return fmt.Errorf("the end of %s:\n%s", filepath.Base(p.Log), data)
}

// WaitReady waits until ready returns nil, and fails with the end of the log
// when the process ends before or ctx does.
func (p *Process) WaitReady(ctx context.Context, ready func(context.Context) error) error {
	err := waitUntil(ctx, p.Name, func(ctx context.Context) error {
		if !p.Running() {
			return nil
		}
		return ready(ctx)
	})
	if err == nil && p.Running() {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s ended", p.Name)
	}
	return errors.Join(err, p.tail())
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
