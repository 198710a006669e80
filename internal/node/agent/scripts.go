package agent

import (
	"context"
	"log/slog"

	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/node/nodescript"
)

// findHost is the way to the host: to its files, its systemd, and where scripts
// run. Where the host cannot be seen, that is said when something is wanted of
// it.
func findHost(cfg Config, log *slog.Logger) nodescript.Host {
	container := nodescript.Host{Root: "/proc/1/root", PID: 1}
	switch cfg.HostRoot {
	case "":
		host, err := nodescript.FindHost()
		if err != nil {
			log.Warn("taken for a container", "err", err)
			return container
		}
		return host
	case "/":
		return nodescript.Host{Root: "/"}
	}
	container.Root = cfg.HostRoot
	return container
}

// makeScripts is what runs NodeGroupConfigurations; nil when it is switched
// off.
func makeScripts(a *Agent, kube dynamic.Interface, host nodescript.Host) (*nodescript.Runner, error) {
	if !a.cfg.Scripts {
		return nil, nil
	}
	return nodescript.New(nodescript.Config{
		Client: kube, NodeName: a.cfg.NodeName, BootID: a.cfg.BootID, Host: host,
		StateDir: a.cfg.ScriptsDir, Changed: a.nudge,
	}, a.log)
}

// runScripts runs beside the passes, whatever they find: a script may be what
// repairs a node that no pass gets through on. And passes go on without them.
func (a *Agent) runScripts(ctx context.Context) {
	if a.scripts == nil {
		return
	}
	if err := a.scripts.Run(ctx); err != nil {
		a.log.Error("NodeGroupConfigurations are not run on this node", "err", err)
		a.scriptsFailed.Store(&err)
		a.nudge()
	}
}

// lookAtScripts tells the runner about the node, and reports what it did.
func (a *Agent) lookAtScripts(v *view) {
	if a.scripts == nil || v.own == nil || a.dismissed(v.own) {
		return // an agent that has left and was started again runs none anew
	}
	a.scripts.Learn(nodescript.Node{Group: v.own.Spec.NodeGroup, UID: nodeUID(v.own)})
	scripts, known := a.scripts.Status()
	if !known {
		scripts = v.own.Status.Scripts
	}
	v.status.Scripts = scripts
	v.warn(a.scripts.Warnings()...)
	if err := a.scriptsFailed.Load(); err != nil {
		v.warn("NodeGroupConfigurations are not run: " + brief(*err))
	}
}
