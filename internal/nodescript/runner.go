package nodescript

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Node is what has to be known of the node before anything runs on it.
type Node struct {
	// Group is RegistryNode's spec.nodeGroup; empty for a Node without the label.
	Group string
	// UID is the Node's, for Events.
	UID string
}

// Runner runs the scripts that concern one node.
type Runner struct {
	cfg Config
	log *slog.Logger

	mu       sync.Mutex
	node     *Node
	status   []registryv1alpha1.ScriptStatus
	known    bool
	warnings []string
}

// New checks the configuration; nothing runs before Run.
func New(cfg Config, log *slog.Logger) (*Runner, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, log: log}, nil
}

// Run works until the context ends. A script that runs then is ended too; the
// next Run starts again with the first one.
func (r *Runner) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Learn tells the runner about its node. Nothing runs before the first call;
// saying the same again costs nothing.
func (r *Runner) Learn(n Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.node = &n
}

// Status is every script that concerns the node, in the order in which they
// run. It is unknown until node and scripts are: what was reported before holds
// until then.
func (r *Runner) Status() (scripts []registryv1alpha1.ScriptStatus, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.status), r.known
}

// Warnings are sentences for RegistryNode's status.warnings.
func (r *Runner) Warnings() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.warnings)
}
