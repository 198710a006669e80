package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Service is a program that a node's init keeps running.
type Service struct {
	Name string
	// Path is the program as the node sees it; a name alone is looked for in the
	// node's PATH.
	Path string
	Args []string
	// Files are written before it starts, by their path on the node. Only root
	// may read them.
	Files map[string]string
}

// ServiceState is what a node's init knows of a service.
type ServiceState struct {
	// PID is the process that was started last, as the node numbers it, and
	// Started when it was: both together name it for good.
	PID     int
	Started uint64
	// Starts is how often it was started since the machine was switched on.
	Starts int
}

// supervisor is the part of an init system that is needed: it starts a program
// again whenever that ends, and lets its children live. What it started is
// written down before anybody can see it work.
const supervisor = `#!/bin/sh
name=$1
shift
while :; do
	"$@" >>"/var/log/$name.log" 2>&1 </dev/null &
	pid=$!
	started=$(sed 's/.*) //' "/proc/$pid/stat" | cut -d' ' -f20)
	echo "$pid $started" >>"` + servicesDir + `/$name"
	# One that fails is given time, as RestartSec does.
	wait "$pid" && sleep 0.1 || sleep 1
done
`

const (
	servicesDir    = "/run/services"
	supervisorPath = "/run/supervise"
)

// StartService has the node run a program from now on: again when it ends, and
// again after the machine was switched off or installed anew.
func (n *Node) StartService(ctx context.Context, s Service) error {
	n.mu.Lock()
	n.services = append(n.services, s)
	n.mu.Unlock()
	return n.launch(ctx, s)
}

// launch starts a service.
func (n *Node) launch(ctx context.Context, s Service) error {
	for path, content := range s.Files {
		if err := n.writeFile(path, content, 0o600); err != nil {
			return err
		}
	}
	const detached = `exec setsid --fork "$@" </dev/null >/dev/null 2>&1`
	argv := append([]string{"/bin/sh", "-c", detached, "sh", "/bin/sh", supervisorPath, s.Name, s.Path}, s.Args...)
	if _, err := n.runWith(ctx, nil, argv...); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	// The log of a node is found with those of the run, and goes with its disk.
	link := n.env.run.Path("logs", n.Name+"-"+s.Name+".log")
	if err := os.Symlink(filepath.Join(n.dir(), "var", "log", s.Name+".log"), link); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("start %s on %s: %w", s.Name, n.Name, err)
	}
	return nil
}

// Service tells what became of a service.
func (n *Node) Service(name string) (ServiceState, error) {
	data, err := os.ReadFile(filepath.Join(n.dir(), servicesDir, name))
	if err != nil {
		return ServiceState{}, fmt.Errorf("service %s of %s: %w", name, n.Name, err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	pid, started, _ := strings.Cut(lines[len(lines)-1], " ")
	state := ServiceState{Starts: len(lines)}
	if state.PID, err = strconv.Atoi(pid); err != nil {
		return ServiceState{}, fmt.Errorf("process of service %s of %s: %w", name, n.Name, err)
	}
	if state.Started, err = strconv.ParseUint(started, 10, 64); err != nil {
		return ServiceState{}, fmt.Errorf("start of service %s of %s: %w", name, n.Name, err)
	}
	return state, nil
}

// ContainerdStarts is how often containerd was started since the machine was
// switched on; 0 if never.
func (n *Node) ContainerdStarts() int { return n.starts(containerdService) }

// KubeletStarts is the same for the kubelet.
func (n *Node) KubeletStarts() int { return n.starts(kubeletService) }

func (n *Node) starts(service string) int {
	state, err := n.Service(service)
	if err != nil {
		return 0
	}
	return state.Starts
}

// waitService waits for a service to answer; the error has the end of its log.
func (n *Node) waitService(ctx context.Context, name string, ready func(context.Context) error) error {
	err := waitUntil(ctx, name+" of "+n.Name, ready)
	if err == nil {
		return nil
	}
	data, logErr := os.ReadFile(filepath.Join(n.dir(), "var", "log", name+".log"))
	if logErr != nil {
		return errors.Join(err, logErr)
	}
	const most = 3000
	return fmt.Errorf("%w; the end of its log:\n%s", err, data[max(0, len(data)-most):])
}
