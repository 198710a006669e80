package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/nodescript"
	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// Agent is the half of the agent that touches the node. One goroutine makes
// the passes and owns everything without a lock of its own; all others only
// tell it that something changed.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	folder  handoff.Folder
	cri     *containerd.Client
	report  *reporter
	files   *watcher
	wake    chan struct{}
	now     func() time.Time
	proc    processes
	host    nodescript.Host
	changer changer
	scripts *nodescript.Runner // nil when they are switched off
	// scriptsFailed is why they are not run although they should be.
	scriptsFailed atomic.Pointer[error]
	stopScripts   context.CancelFunc
	scriptsEnded  chan struct{} // closed when none runs and none will

	serving atomic.Pointer[served]
	// forget asks the next pass to look at containerd anew.
	forget atomic.Bool

	known    *known        // what was found out about containerd
	proofs   *proofs       // which names containerd was seen asking us for
	reach    *reach        // which registries answered
	standing standing      // what was reported last and still holds
	applied  hostsdir.Tree // what Apply did last
	healed   healed        // what was changed by hand
	memory   memory        // what a restart must not forget
	// proving is how this pass proves a change of containerd's main file.
	proving     func(ctx context.Context, path string) error
	toldOfUsers bool                 // the serving half has what is in the state folder
	since       map[string]time.Time // when a passing trouble began
	failing     time.Time            // since when passes do not get through
	seen        int64                // the generation of the last pass
	leaving     bool                 // scripts were ended: the module leaves the node
	left        bool                 // and the folder was cleared
}

// served is the serving half as it answered last.
type served struct {
	client *handoff.Client
	status handoff.Status
}

// Run works until the context ends.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	a, err := newAgent(cfg, log)
	if err != nil {
		return err
	}
	defer func() { _ = a.cri.Close() }()
	// A pod that was replaced by force may still be at work.
	lock, err := a.folder.Lock(ctx)
	if err != nil {
		return stopped(ctx, err)
	}
	defer func() { _ = lock.Close() }()
	defer a.vanish()
	group, ctx := errgroup.WithContext(ctx)
	scripts, stop := context.WithCancel(ctx)
	defer stop()
	a.stopScripts = stop
	group.Go(func() error { a.followServe(ctx); return nil })
	group.Go(func() error { a.report.follow(ctx, a.nudge); return nil })
	group.Go(func() error { a.files.run(ctx, a.fileChanged); return nil })
	group.Go(func() error {
		a.cri.Restarts(ctx, func() { a.forget.Store(true); a.nudge() })
		return nil
	})
	group.Go(func() error { defer close(a.scriptsEnded); a.runScripts(scripts); return nil })
	group.Go(func() error { return a.loop(ctx) })
	return group.Wait()
}

// stopped is no error when the agent was told to end.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func newAgent(cfg Config, log *slog.Logger) (*Agent, error) {
	if cfg.NodeName == "" {
		return nil, errors.New("the node's name is not set")
	}
	if cfg.ProofInterval <= 0 {
		cfg.ProofInterval = DefaultProofInterval
	}
	if cfg.BootID == "" {
		id, err := os.ReadFile(kernelBootID)
		if err != nil {
			return nil, fmt.Errorf("read the boot id: %w", err)
		}
		cfg.BootID = strings.TrimSpace(string(id))
	}
	folder, err := handoff.Open(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	kube, err := dynamic.NewForConfig(cfg.Kube)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	cri, err := containerd.Dial(cfg.Socket)
	if err != nil {
		return nil, err
	}
	host := findHost(cfg, log)
	cfg.HostRoot = host.Root
	a := &Agent{
		cfg: cfg, log: log, folder: folder, cri: cri, now: time.Now, proc: "/proc", host: host,
		report: newReporter(kube, cfg.NodeName, log),
		files:  newWatcher(log),
		wake:   make(chan struct{}, 1),
		proofs: newProofs(cri, cfg.ProofInterval),
		reach:  newReach(cfg.ProofInterval, cfg.Jitter),
		since:  map[string]time.Time{},

		scriptsEnded: make(chan struct{}),
	}
	runtime, err := reconfigure.NewHost(cfg.Socket)
	if err != nil {
		return nil, err
	}
	a.changer = reconfigure.New(reconfigure.Options{
		Log: log, State: cfg.StateDir, Runtime: runtime, Service: unit{a},
		Prove: a.proveChanged, Report: a.reportRunning, Limits: cfg.Limits,
	})
	if err := folder.Memory(&a.memory); err != nil {
		log.Warn("what an earlier agent remembered is lost", "err", err)
	}
	a.scripts, err = makeScripts(a, kube, host)
	return a, err
}

// nudge asks for a pass; several nudges are one.
func (a *Agent) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// fileChanged is told of every change in the directories that a pass named.
func (a *Agent) fileChanged(config bool) {
	if config {
		a.forget.Store(true)
	}
	a.nudge()
}

// loop makes a pass whenever something changed, and when the last one asked to
// be repeated.
func (a *Agent) loop(ctx context.Context) error {
	for {
		if a.recalled() {
			return errStays
		}
		again := time.NewTimer(a.pass(ctx))
		select {
		case <-a.wake:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil
		}
		again.Stop()
	}
}

// followServe keeps an open question with the serving half: which generation
// does it serve? Each answer is reason for a pass.
func (a *Agent) followServe(ctx context.Context) {
	for {
		err := a.listenToServe(ctx)
		if ctx.Err() != nil {
			return
		}
		a.serving.Store(nil)
		a.nudge()
		a.log.Debug("the serving half does not answer", "err", err)
		select {
		case <-time.After(serveAgain):
		case <-ctx.Done():
			return
		}
	}
}

// serveAgain is the pause after a failed question: serve has just been started
// or is about to be.
const serveAgain = 500 * time.Millisecond

func (a *Agent) listenToServe(ctx context.Context) error {
	client, err := handoff.NewClient("https://"+a.cfg.Listen, a.folder, hostsdir.TokenHeader)
	if err != nil {
		return err
	}
	defer client.Close()
	var seen handoff.Status
	for {
		status, err := client.Wait(ctx, seen)
		if err != nil {
			return err
		}
		if status != seen {
			seen = status
			a.serving.Store(&served{client: client, status: status})
			a.nudge()
		}
	}
}
