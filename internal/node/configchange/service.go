package configchange

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

// restartWithin is how long the command may take.
const restartWithin = 2 * time.Minute

// ServiceOf is what restarts a unit of the host: systemd, or the command if there
// is one.
func ServiceOf(host nodescript.Host, command, unit string, log *slog.Logger) reconfigure.Service {
	if command != "" {
		return restartCommand{host, command, log}
	}
	return systemdUnit{systemd.Open(host.Root, unit)}
}

// systemdUnit is a service of the host's systemd. Where that cannot be used, the
// error names the other way.
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

// Check implements reconfigure.Service. Whether containers survive cannot be
// known before; it is checked after the restart.
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
	if err == nil {
		// Its output is thrown away: a containerd that does not start prints its
		// configuration, with passwords.
		cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
		err = cmd.Run()
		c.log.Info("restart command", "path", c.path, "err", err)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", c.path, err)
	}
	return nil
}
