package containerdtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/containerd"
)

// startTimeout is how long a containerd may take to start or to end.
const startTimeout = 20 * time.Second

// process is one run of containerd.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed after the end
}

// Start starts containerd and returns when its CRI answers.
func (c *Containerd) Start(t testing.TB) *containerd.Client {
	t.Helper()
	c.mu.Lock()
	err := c.start(t.Context())
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	client, err := containerd.Dial(c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	c.answers(t, client)
	return client
}

func (c *Containerd) answers(t testing.TB, client *containerd.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		// Until 1.x has looked at its containers it says "not initialized yet".
		_, _, err := client.Version(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Restart ends containerd alone, as systemd does where containers are to live
// on, and returns when the CRI of the next one answers.
func (c *Containerd) Restart(t testing.TB) {
	t.Helper()
	if err := c.RestartService(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Ready(t)
}

// Ready returns when its CRI answers.
func (c *Containerd) Ready(t testing.TB) {
	t.Helper()
	client, err := containerd.Dial(c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	c.answers(t, client)
}

// RestartService does what `systemctl restart containerd` does: containerd
// alone is ended and started, and it is an error if the new one does not come
// to listen. As with systemd, its CRI may still be missing then.
func (c *Containerd) RestartService(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.end(syscall.SIGTERM); err != nil {
		return err
	}
	return c.start(ctx)
}

// Starts says how often it was started.
func (c *Containerd) Starts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.starts
}

// Terminate ends containerd alone with SIGTERM; what it started lives on.
func (c *Containerd) Terminate(t testing.TB) { t.Helper(); c.signal(t, syscall.SIGTERM) }

// Kill is Terminate with SIGKILL.
func (c *Containerd) Kill(t testing.TB) { t.Helper(); c.signal(t, syscall.SIGKILL) }

func (c *Containerd) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.end(s); err != nil {
		t.Fatal(err)
	}
}

// start starts one and waits until it listens. The lock is held.
func (c *Containerd) start(ctx context.Context) error {
	if c.process != nil {
		return errors.New("containerd runs already")
	}
	if c.BeforeStart != nil {
		if err := c.BeforeStart(); err != nil {
			return fmt.Errorf("before containerd's start: %w", err)
		}
	}
	log, err := os.OpenFile(filepath.Join(c.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.binary, "--config", c.ConfigFile) // ends in Stop
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "PATH="+c.path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ended by a signal
		close(p.ended)
	}()
	c.starts++
	deadline := time.After(startTimeout)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
		if err == nil {
			c.process = p
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("containerd %s ended at once: %s", c.Version, c.lastWords())
		case <-ctx.Done():
		case <-deadline:
		case <-time.After(10 * time.Millisecond):
			continue
		}
		_ = cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("containerd %s does not listen: %w", c.Version, err)
	}
}

// end ends it, if it runs. The lock is held.
func (c *Containerd) end(s syscall.Signal) error {
	p := c.process
	if p == nil {
		return nil
	}
	c.process = nil
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.ended:
		return nil
	case <-time.After(startTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("containerd %s does not end on %v", c.Version, s)
	}
}

func (c *Containerd) lastWords() string {
	log, err := os.ReadFile(filepath.Join(c.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return lines[len(lines)-1]
}

// Stop kills containerd and everything that it started, as a power cut does.
func (c *Containerd) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.end(syscall.SIGKILL)
	c.killContainers()
	c.unmount()
	c.removeCgroups()
}
