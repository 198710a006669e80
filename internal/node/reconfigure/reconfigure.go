package reconfigure

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
)

// Want is what the main file should say.
type Want struct {
	// File is the main file as this program reaches it: a root, and then Shown,
	// which is how containerd and the operator know it.
	File, Shown string
	// Major is containerd's major version: 1 or 2.
	Major int
	// Path is the directory that config_path must be. If it is empty nothing is
	// wanted, but an unfinished change is still finished.
	Path string
	// Unread says that the file has Path already, but containerd has not read it: it
	// is only restarted.
	Unread bool
	// Legacy takes our edit out, if there is one. Path is ignored then.
	Legacy bool
	// Instead is what an operator does if somebody else writes this file, as a
	// sentence without its end; empty if nobody is known to.
	Instead string
}

// Phase is how far a change is.
type Phase string

// The phases. None says that no change is needed, wanted or under way.
const (
	None    Phase = ""
	Waiting Phase = "Waiting"
	Running Phase = "Running"
	Failed  Phase = "Failed"
)

// Status is what a pass found or did, fit for RegistryNode's status.restart.
type Status struct {
	ID      string
	Phase   Phase
	Message string
	// Committed says that this pass finished a change: containerd was restarted.
	Committed bool
}

// Refusal says in a sentence for the operator why a change cannot be proposed.
// Nothing was changed.
type Refusal struct{ Sentence string }

func (r *Refusal) Error() string { return r.Sentence }

// Runtime is the containerd whose main file changes.
type Runtime interface {
	// Instance names this run of containerd, as BOOT/RUN, so that a reboot differs
	// from a restart. It is an error if containerd does not answer.
	Instance(ctx context.Context) (string, error)
	// DumpConfig is how containerd's own binary understands a file, named as
	// containerd sees it. A file that is not there means containerd's defaults.
	DumpConfig(ctx context.Context, file string) ([]byte, error)
	// Answers returns nil if CRI's runtime and image service both answer now.
	Answers(ctx context.Context) error
	// Containers are the IDs of the running containers.
	Containers(ctx context.Context) ([]string, error)
	// Lost are those of the given containers that a restart may have killed, without
	// those that ended by themselves or were removed.
	Lost(ctx context.Context, before []string) ([]string, error)
}

// Service restarts containerd.
type Service interface {
	// Check says why containerd must not, or cannot, be restarted from here.
	Check(ctx context.Context) error
	// Restart returns when containerd is up again, or why it is not.
	Restart(ctx context.Context) error
}

// Options are a Reconfigurer's parts.
type Options struct {
	Log     *slog.Logger
	State   string // the agent's state folder; the journal is there
	Runtime Runtime
	Service Service
	// Prove returns nil when containerd was seen looking into path. If path is empty
	// our edit was taken out, and there is nothing to prove.
	Prove func(ctx context.Context, path string) error
	// Report says that a change begins, before anything is changed. It may be nil.
	Report func(ctx context.Context, s Status)
	// Limits are the times that steps may take. Zero values mean defaults.
	Limits Limits
	// FS is for tests; nil is the machine's.
	FS durable.FS
}

// Limits are the times that steps may take.
type Limits struct {
	Restart time.Duration // systemd's job; 3 minutes
	Answer  time.Duration // until CRI answers after a restart; 2 minutes
	Prove   time.Duration // until the redirect is proved; 1 minute
	Ask     time.Duration // one question; 20 seconds
	Retry   time.Duration // between two questions while waiting; 250 ms
	Recheck time.Duration // until containerd's binary checks a refused file again; 30 seconds
}

func (l Limits) orDefault() Limits {
	return Limits{
		Restart: cmp.Or(l.Restart, 3*time.Minute),
		Answer:  cmp.Or(l.Answer, 2*time.Minute),
		Prove:   cmp.Or(l.Prove, time.Minute),
		Ask:     cmp.Or(l.Ask, 20*time.Second),
		Retry:   cmp.Or(l.Retry, 250*time.Millisecond),
		Recheck: cmp.Or(l.Recheck, 30*time.Second),
	}
}

// Reconfigurer changes one node's main file.
type Reconfigurer struct {
	o  Options
	fs durable.FS

	mu      sync.Mutex
	checked checkResult // of the last candidate that containerd was shown
}

// New makes a Reconfigurer; one at a time per state folder.
func New(o Options) *Reconfigurer {
	o.Limits = o.Limits.orDefault()
	if o.FS == nil {
		o.FS = durable.Disk{}
	}
	return &Reconfigurer{o: o, fs: o.FS}
}

// Pass first finishes what an earlier pass left. Then there is nothing to do, or a
// change that failed before, that waits for approval, or that is carried out
// because approved is its ID; that takes as long as containerd takes. A *Refusal
// means that it cannot be done; any other error may be over at the next try.
func (r *Reconfigurer) Pass(ctx context.Context, w Want, approved string) (Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, over, err := r.resume(ctx, w); err != nil || over {
		return s, err
	}
	p, err := r.mapPaths(w)
	if err != nil {
		return Status{}, err
	}
	var c *change
	if w.Path != "" || w.Legacy {
		if c, err = r.plan(ctx, p, w); err != nil {
			return Status{}, err
		}
	}
	if c == nil {
		return r.idle(ctx)
	}
	var failed failure
	if found, err := r.load(failureName, &failed); err != nil {
		return Status{}, err
	} else if found && (failed.Key == c.key || failed.Meaning != "" && failed.Meaning == c.meaning) {
		return Status{ID: failed.ID, Phase: Failed, Message: failed.Message}, nil
	}
	if approved != c.id {
		return Status{ID: c.id, Phase: Waiting, Message: c.proposal(p)}, nil
	}
	return r.run(ctx, p, c)
}

// idle is the status if there is nothing to do. If containerd did not come back
// after a failed change, that is reported until containerd answers once: it may
// have stopped later for another reason.
func (r *Reconfigurer) idle(ctx context.Context) (Status, error) {
	var failed failure
	found, err := r.load(failureName, &failed)
	if err != nil || !found || !failed.Dead {
		return Status{}, err
	}
	if _, err := r.instance(ctx); err != nil {
		return Status{ID: failed.ID, Phase: Failed, Message: failed.Message}, nil
	}
	failed.Dead = false
	return Status{}, r.save(failureName, failed)
}

// Edited reports whether our edit is in the main file.
func (r *Reconfigurer) Edited(w Want) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := r.mapPaths(w)
	if err != nil {
		return false, err
	}
	c := &change{legacy: true}
	if c.before, c.exists, err = r.read(p); err != nil {
		return false, err
	}
	var refusal *Refusal
	if err := r.planRevert(p, c); errors.As(err, &refusal) {
		return true, nil // it is there, and a user must take it out
	} else if err != nil {
		return false, err
	}
	return !c.same(), nil
}
