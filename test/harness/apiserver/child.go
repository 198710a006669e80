package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end after SIGTERM.
const stopTimeout = 10 * time.Second

// child is a process that cannot outlive this one.
type child struct {
	name   string
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// startChild starts a binary with its output in dir/name.log.
func startChild(ctx context.Context, dir, binary string, args []string) (*child, error) {
	c := &child{name: filepath.Base(binary), exited: make(chan struct{})}
	c.log = filepath.Join(dir, c.name+".log")
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	// Its life is bound to ours by Pdeathsig and ends by stop, not by a context.
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, args...)
	c.cmd.Stdout, c.cmd.Stderr = out, out
	// A process group of its own: Ctrl-C reaches us first, and the server is
	// still there for the clean-up of tests.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}

	started := make(chan error)
	go func() {
		// Pdeathsig is about the thread that started the child, so this
		// goroutine keeps its thread until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = c.cmd.Wait() // the exit code of a stopped server says nothing
		close(c.exited)
	}()
	err = errors.Join(<-started, out.Close())
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// stop ends the process and waits for its end.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	select {
	case <-c.exited:
	case <-time.After(stopTimeout):
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// lastWords are the end of the process's output.
func (c *child) lastWords() string {
	data, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return c.name + ": …" + string(bytes.TrimSpace(data))
}
