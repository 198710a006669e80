package nodescript

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/watch"
)

// Node is what must be known of the node before anything runs on it.
type Node struct {
	// Group is RegistryNode's spec.nodeGroup; empty for a Node without the label.
	Group string
	// UID is the Node's, for Events.
	UID string
}

// Runner runs the scripts that concern one node. The goroutine of Run makes the
// rounds; all others only wake it.
type Runner struct {
	cfg  Config
	log  *slog.Logger
	wake chan struct{}

	// What a round uses; set by Run, replaced by tests.
	folder *stateDir
	bash   executor
	notify notifier

	mu       sync.Mutex
	node     *Node
	scripts  []script
	read     bool // scripts are what the API server has
	bundles  []string
	status   []registryv1alpha1.ScriptStatus
	known    bool
	warnings []string
}

// notifier reports scripts that fail.
type notifier interface {
	failed(ctx context.Context, node Node, s script, o outcome)
	succeeded(s script)
}

// New checks the configuration. Nothing runs before Run.
func New(cfg Config, log *slog.Logger) (*Runner, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Runner{cfg: cfg, log: log, wake: make(chan struct{}, 1)}, nil
}

// Run works until the context ends. It also ends the script that runs then; the
// next Run starts with the first script again.
func (r *Runner) Run(ctx context.Context) error {
	folder, err := openStateDir(r.cfg.Host, r.cfg.StateDir)
	if err != nil {
		return err
	}
	defer func() { _ = folder.close() }()
	unlock, err := folder.lock(ctx)
	defer unlock()
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("make sure that no other agent runs scripts: %w", err)
	}
	r.folder = folder
	r.bash = &bash{host: r.cfg.Host, folder: folder, bootID: r.cfg.BootID, timeout: r.cfg.Timeout}
	r.notify = newEvents(r.cfg.Client, r.cfg.NodeName, r.log)
	if left, ok := folder.interrupted(); ok {
		left.end(ctx, r.cfg.BootID)
		folder.forgetRunning()
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { r.follow(ctx); return nil })
	group.Go(func() error { r.loop(ctx); return nil })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("run scripts: %w", err)
	}
	return nil
}

// Learn tells the runner about its node. Nothing runs before the first call. It
// may be called again with the same.
func (r *Runner) Learn(n Node) {
	r.mu.Lock()
	same := r.node != nil && *r.node == n
	r.node = &n
	r.mu.Unlock()
	if !same {
		r.nudge()
	}
}

// nudge asks for a round. Several calls before it begins are one.
func (r *Runner) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// learnScripts takes what the API server has.
func (r *Runner) learnScripts(all []script) {
	r.mu.Lock()
	r.scripts, r.read = all, true
	r.mu.Unlock()
	r.nudge()
}

// plan is what is to run; false while that is not known.
func (r *Runner) plan() (plan, Node, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.node == nil || !r.read {
		return plan{}, Node{}, false
	}
	return makePlan(r.scripts, selector{group: r.node.Group, bundles: r.bundles}), *r.node, true
}

// loop makes a round whenever something changed, and when the next one is due.
func (r *Runner) loop(ctx context.Context) {
	names, err := bundles(r.cfg.Host.Root)
	if err != nil {
		r.log.Warn("only scripts for all bundles run here", "err", err)
	}
	r.mu.Lock()
	r.bundles = names
	r.mu.Unlock()
	for ctx.Err() == nil {
		again := time.After(r.round(ctx))
		select {
		case <-r.wake:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// follow keeps the scripts up to date with the API server. While that does not
// answer, the last ones stay.
func (r *Runner) follow(ctx context.Context) {
	all := watch.All{
		Client:   r.cfg.Client,
		Resource: deckhousev1alpha1.GroupVersion().WithResource("nodegroupconfigurations"),
	}
	all.Run(ctx, r.log, func(objects []*unstructured.Unstructured) {
		var scripts []script
		for _, o := range objects {
			if s, err := readScript(o); err != nil {
				r.log.Error("a script is left out", "err", err)
			} else {
				scripts = append(scripts, s)
			}
		}
		r.learnScripts(scripts)
	})
}
