package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/d8-registry/registry/internal/node/nodescript"
	"github.com/d8-registry/registry/internal/node/reconfigure"
	"github.com/d8-registry/registry/internal/node/systemd"
)

// restartWithin is how long a command may take to restart containerd.
const restartWithin = 2 * time.Minute

// ServiceOf is what an agent of that configuration restarts a containerd with
// that is a unit of systemd, or none if the name is empty.
func ServiceOf(cfg Config, unit string, log *slog.Logger) reconfigure.Service {
	return serviceOf(cfg, findHost(cfg, log), unit, log)
}

func serviceOf(cfg Config, host nodescript.Host, unit string, log *slog.Logger) reconfigure.Service {
	switch {
	case cfg.Service != nil:
		return cfg.Service
	case cfg.RestartCommand != "":
		return restartCommand{host, cfg.RestartCommand, log}
	}
	return systemdUnit{systemd.Open(host.Root, unit)}
}

// systemdUnit is a service of the host's systemd, or the words that there is
// another way.
type systemdUnit struct{ *systemd.Unit }

// Check implements reconfigure.Service.
func (u systemdUnit) Check(ctx context.Context) error {
	err := u.Unit.Check(ctx)
	if errors.Is(err, systemd.ErrUnsupported) {
		return fmt.Errorf("%w; or start the agent with --restart-command=PROGRAM, a program of the host that restarts containerd and leaves containers running", err)
	}
	return err
}

// restartCommand restarts containerd where there is no systemd: a program of the
// host, without arguments, that ends with 0 when containerd runs again.
type restartCommand struct {
	host nodescript.Host
	path string
	log  *slog.Logger
}

// Check implements reconfigure.Service. Whether containers survive is for
// whoever wrote the program; it is looked at after the restart.
func (c restartCommand) Check(context.Context) error {
	if !filepath.IsAbs(c.path) {
		return fmt.Errorf("--restart-command=%s must be an absolute path on the host", c.path)
	}
	return nil
}

// Restart implements reconfigure.Service.
func (c restartCommand) Restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restartWithin)
	defer cancel()
	cmd, err := c.host.Command(ctx, c.path)
	if err != nil {
		return fmt.Errorf("run %s: %w", c.path, err)
	}
	// Nothing of what it says is kept: a containerd that does not start quotes its
	// configuration, passwords included.
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	err = cmd.Run()
	c.log.Info("restart command", "path", c.path, "err", err)
	if err != nil {
		return fmt.Errorf("run %s: %w", c.path, err)
	}
	return nil
}
