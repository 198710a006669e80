package agent

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/node/configchange"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hosts"
	"github.com/d8-registry/registry/internal/node/nodescript"
	"github.com/d8-registry/registry/internal/node/nodestore"
	"github.com/d8-registry/registry/internal/node/proof"
	"github.com/d8-registry/registry/internal/node/reach"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/node/watchdog"
)

// Agent is the half of the agent that touches the node. Each part has one task
// and its own memory; the Agent only calls them in order, see pass.go. One
// goroutine does that. All others only wake it.
type Agent struct {
	report     *report.Reporter      // what RegistryNode.status says
	containerd *inspector            // what is known about containerd
	serving    *serving              // the other half, and the layout that it serves
	hosts      *hosts.Keeper         // host directories, ours and those of users
	proofs     *proof.Prover         // containerd comes to the agent
	reach      *reach.Checker        // registries answer
	change     *configchange.Changer // containerd's main file, and its restart
	scripts    *scripts              // NodeGroupConfigurations
	store      *nodestore.Part       // the store of this node, if it is to run one
	cleanup    *cleanup              // the module leaves the node
	memory     *memory               // what must not be forgotten when the agent restarts
	watchdog   *watchdog.Watchdog    // whether passes come to their end
	heartbeat  report.Heartbeat      // the controller hears that
}

// newAgent wires the parts. wake asks for a pass.
func newAgent(cfg Config, folder *handoff.Hold, log *slog.Logger, wake func()) (*Agent, error) {
	state := folder.StateDir
	kube, err := dynamic.NewForConfig(cfg.Kube)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	cri, err := containerd.Dial(cfg.Socket)
	if err != nil {
		return nil, err
	}
	runtime, err := reconfigure.NewHost(cfg.Socket)
	if err != nil {
		return nil, err
	}
	host := findHost(cfg, log)
	memory := loadMemory(state, log)
	a := &Agent{
		report: report.New(report.Options{
			Kube: kube, Node: cfg.NodeName, Log: log,
			Identity: report.Identity{AgentVersion: cfg.Version, PodUID: cfg.PodUID, BootID: cfg.BootID, SourceDir: cfg.SourceDir},
		}),
		containerd: newInspector(cfg, cri, log, wake),
		serving:    &serving{listen: cfg.Listen, state: state, log: log, wake: wake},
		proofs:     proof.New(cri, cfg.Listen, cfg.ProofInterval),
		reach:      reach.New(cfg.NodeName, cfg.ProofInterval, cfg.Jitter),
		memory:     memory,
		watchdog:   watchdog.New(nil),
	}
	a.heartbeat = report.Heartbeat{Kube: kube, Node: cfg.NodeName, Reporter: a.report, Alive: a.watchdog.Err, Log: log}
	a.hosts = hosts.New(hosts.Options{
		SourceDir: cfg.SourceDir, State: state, Watch: a.containerd.files.watchHosts,
		Places: memory.Places, Save: memory.savePlaces, Log: log,
	})
	a.change = configchange.New(configchange.Options{
		Log: log, StateDir: cfg.StateDir, HostRoot: host.Root, Override: cfg.HostsDir != "",
		Runtime: runtime, Service: func(unit string) reconfigure.Service { return serviceOf(cfg, host, unit, log) }, Limits: cfg.Limits,
		WriteRestart: a.report.WriteRestart, Restarted: a.containerd.forget,
		Main: memory.Main, Save: memory.saveMain,
	})
	if a.scripts, err = newScripts(cfg, kube, host, log, wake); err != nil {
		return nil, err
	}
	a.store = newStore(cfg, kube, host, a, log, wake)
	a.cleanup = &cleanup{
		state: folder, dir: cfg.StateDir, outside: filepath.Join(host.Root, cfg.StateDir), scripts: a.scripts, log: log,
	}
	return a, nil
}

// ServiceOf is what an agent of that configuration restarts containerd with, if
// containerd is that unit of systemd; an empty name is none.
func ServiceOf(cfg Config, unit string, log *slog.Logger) reconfigure.Service {
	return serviceOf(cfg, findHost(cfg, log), unit, log)
}

func serviceOf(cfg Config, host nodescript.Host, unit string, log *slog.Logger) reconfigure.Service {
	if cfg.Service != nil {
		return cfg.Service
	}
	return configchange.ServiceOf(host, cfg.RestartCommand, unit, log)
}

// findHost is the way to the host: to its files, to its systemd, and where
// scripts run. If the host cannot be seen, the parts that need it report that.
func findHost(cfg Config, log *slog.Logger) nodescript.Host {
	switch cfg.HostRoot {
	case "":
		host, err := nodescript.FindHost()
		if err != nil {
			log.Warn("taken for a container", "err", err)
			return nodescript.Host{Root: "/proc/1/root", PID: 1}
		}
		return host
	case "/":
		return nodescript.Host{Root: "/"}
	}
	return nodescript.Host{Root: cfg.HostRoot, PID: 1}
}
