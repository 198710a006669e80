package agent

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
)

// known is what was found out about containerd, and when.
type known struct {
	facts containerd.Facts
	at    time.Time
}

// stale is soon true for a configuration that somebody should be repairing.
func (k *known) stale(now time.Time, interval time.Duration) bool {
	if k == nil {
		return true
	}
	if k.facts.Preflight != containerd.Ready {
		interval = min(interval, later)
	}
	return now.Sub(k.at) >= interval
}

// lookAtContainerd is what is known of containerd; nil while it does not
// answer.
func (a *Agent) lookAtContainerd(ctx context.Context, v *view) *containerd.Facts {
	if err := a.discover(ctx); err != nil {
		v.retry = true
		if v.hold = a.passing("containerd", true); !v.hold {
			// What is not running proves nothing.
			a.standing = standing{}
			v.trouble("containerd does not answer: %v", err)
		}
		return nil
	}
	a.passing("containerd", false)
	f := &a.known.facts
	v.status.Preflight = string(f.Preflight)
	v.status.Containerd.Version = f.Version
	v.status.Containerd.EffectiveDirectory = f.Effective
	v.status.Containerd.ConfigFile = f.ConfigFile
	v.status.Containerd.SandboxImage = f.SandboxImage
	v.warn(f.Warnings...)
	if f.Preflight != containerd.Ready {
		v.trouble("%s", f.Message)
	}
	return f
}

// discover asks containerd's binary for its configuration only when it may have
// changed: it takes a process to do so.
func (a *Agent) discover(ctx context.Context) error {
	if !a.forget.Swap(false) && !a.known.stale(a.now(), a.cfg.ProofInterval) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, discoverTime)
	defer cancel()
	facts, err := containerd.Discover(ctx, a.cri, containerd.Options{
		Socket: a.cfg.Socket, Effective: a.cfg.HostsDir, ConfigFile: a.cfg.ConfigFile, Source: a.cfg.SourceDir,
	})
	if err != nil {
		a.known = nil
		return err
	}
	a.known = &known{facts: facts, at: a.now()}
	a.files.watchConfig(facts.ConfigDirs)
	return nil
}

// discoverTime is longer than containerd's binary takes to tell its
// configuration, also on a node with too much to do: what is asked during a
// change decides whether the change stays.
const discoverTime = 20 * time.Second

// lookAtServe is the layout that is served, zero before the first, and who
// serves it; nobody while that is not known.
func (a *Agent) lookAtServe(v *view) (layout.Layout, *served) {
	s := a.serving.Load()
	if s == nil {
		v.retry = true
		if a.passing("serve", true) {
			v.hold = true
			return layout.Layout{}, nil
		}
		a.standing = standing{}
		v.trouble("the serving half of the agent does not answer")
		return layout.Layout{}, nil
	}
	a.passing("serve", false)
	if s.status.Generation < a.standing.generation {
		a.standing = standing{} // its disk was lost: what it does not serve is not proved
	}
	if s.status.Problem != "" {
		v.trouble("%s", s.status.Problem)
	}
	l, err := a.folder.Layout()
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.status.Generation == 0:
		return layout.Layout{}, s // nothing was ever published
	case err != nil:
		v.retry = true
		v.trouble("%v", err)
		return layout.Layout{}, nil
	case l.Generation != s.status.Generation:
		// Saved, and served in a moment; or the other way round.
		v.retry = true
		if v.hold = a.passing("disk", true); !v.hold {
			v.trouble("generation %d is served, but %d is on disk", s.status.Generation, l.Generation)
		}
		return layout.Layout{}, nil
	}
	a.passing("disk", false)
	return l, s
}
