package reconfigure

import (
	"context"
	"errors"
	"log/slog"
)

// Want is what the main file should say.
type Want struct {
	// File is the main file as this program reaches it, Shown as containerd and
	// the operator know it.
	File, Shown string
	// Major is containerd's major version: 1 or 2.
	Major int
	// Path is the directory that config_path must become; empty means that
	// nothing is wanted (an unfinished change is still finished).
	Path string
	// Legacy takes our edit back, if there is one. Path is then ignored.
	Legacy bool
}

// Phase is where a change stands.
type Phase string

// Phases. None: no change is needed, wanted or under way.
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
	// Committed: this very pass finished a change; look at containerd anew.
	Committed bool
}

// Refusal is a change that cannot even be proposed, in a sentence for the
// operator: nothing was touched and no restart will be asked for.
type Refusal struct{ Sentence string }

func (r *Refusal) Error() string { return r.Sentence }

// Runtime is the one containerd whose main file changes.
type Runtime interface {
	// Instance names this run of containerd, over reboots too; an error when
	// none answers.
	Instance(ctx context.Context) (string, error)
	// DumpConfig is what containerd's own binary makes of a file, named as this
	// program reaches it. A file that is not there means containerd's defaults.
	DumpConfig(ctx context.Context, file string) ([]byte, error)
	// Answers returns nil once CRI's runtime and image service both answer.
	Answers(ctx context.Context) error
	// Containers are the IDs of the running containers.
	Containers(ctx context.Context) ([]string, error)
	// Lost are those of the given containers that a restart ended; one that
	// ended by itself, or was removed, is not among them.
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
	// Prove returns nil when containerd was seen doing what the change is for:
	// with path set, that it looks into path; with an empty one (legacy), nil.
	Prove func(ctx context.Context, path string) error
	// Report tells the world that a change has begun, before anything is
	// touched. An error does not stop the change.
	Report func(ctx context.Context, s Status)
	// Limits; zero values are sensible.
	Limits Limits
	// FS is for tests; nil is the real one.
	FS FS
}

// Limits are the times that steps may take.
type Limits struct{}

// FS are the file operations of a change.
type FS interface{}

// Reconfigurer changes one node's main file.
type Reconfigurer struct{ o Options }

// New makes a Reconfigurer; one at a time per state folder.
func New(o Options) *Reconfigurer { return &Reconfigurer{o: o} }

// Pass finishes what an earlier pass left, then looks at what is wanted:
// nothing to do, waiting for approval, failed before, or, when approved is the
// change's ID, the change itself, which takes as long as containerd takes.
// A *Refusal means that it cannot be done; other errors may go by themselves.
func (r *Reconfigurer) Pass(ctx context.Context, w Want, approved string) (Status, error) {
	return Status{}, errors.New("not yet")
}

// Edited reports whether our edit is in the main file, so that the way back to
// the legacy format needs a restart.
func (r *Reconfigurer) Edited() (bool, error) { return false, errors.New("not yet") }
