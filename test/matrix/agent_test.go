package matrix_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/test/harness/agenttest"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// childEnv makes this very program an agent: what `registry-agent all` is,
// except that the test restarts containerd and sees every file operation.
const childEnv = "REGISTRY_TEST_AGENT"

// child is what such an agent is told.
type child struct {
	Kubeconfig, Systemd string
	Node                agent.Config
	Serving             serve.Config
}

// runChild is the agent's whole life.
func runChild(config string) error {
	var c child
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	kube, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	kube.QPS = -1
	c.Node.Kube, c.Serving.Kube, c.Node.Service = kube, kube, remote(c.Systemd)
	if err := trap(); err != nil {
		return fmt.Errorf("trap file operations: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	group, ctx := errgroup.WithContext(context.Background()) //nolint:forbidigo // this is a main function
	group.Go(func() error { return serve.Run(ctx, c.Serving, log) })
	group.Go(func() error { return agent.Run(ctx, c.Node, log) })
	return group.Wait()
}

// remote is a service that somebody at a socket restarts, as systemd does:
// whether or not who asked still lives.
type remote string

func (remote) Check(context.Context) error { return nil }

func (r remote) Restart(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", string(r))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if answer = strings.TrimSpace(answer); answer != "" {
		return errors.New(answer)
	}
	return nil
}

// restarter is the other end.
type restarter struct {
	socket string
	busy   sync.Mutex
}

func newRestarter(t *testing.T, c *containerdtest.Containerd) *restarter {
	t.Helper()
	r := &restarter{socket: filepath.Join(c.Dir, "systemd.sock")}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			r.busy.Lock()
			answer := ""
			if err := c.RestartService(t.Context()); err != nil {
				answer = err.Error()
			}
			r.busy.Unlock()
			_, _ = fmt.Fprintln(conn, answer) // who asked may be dead
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return r
}

// settle waits for a restart that is under way.
func (r *restarter) settle() {
	r.busy.Lock()
	r.busy.Unlock() //nolint:staticcheck // only the wait matters
}

// startChild starts an agent as a process of its own.
func startChild(t *testing.T, n *agenttest.Node, r *restarter) *exec.Cmd {
	t.Helper()
	c := child{Kubeconfig: apiserver.Kubeconfig(t, n.API.Config()), Systemd: r.socket, Node: n.Config, Serving: n.Serving}
	c.Node.Kube, c.Serving.Kube, c.Node.Service = nil, nil, nil
	config, err := json.Marshal(c) //nolint:staticcheck // what cannot be marshalled is nil now
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0]) // ends by kill
	cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	log, err := os.OpenFile(filepath.Join(n.Containerd.Dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_ = log.Close()
	if err != nil {
		t.Fatal(err)
	}
	return cmd
}
