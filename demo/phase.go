package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/machine"
)

// minPulls is how often each node has to pull in a phase, and minPerName how often
// under each name that is in use at its end.
const (
	minPulls   = 30
	minPerName = 10
)

// pullsWithin is how long a phase may go on for the sake of its pulls.
const pullsWithin = time.Minute

// phase is one part of a story, and what happened in it.
type phase struct {
	title  string
	began  time.Time
	took   time.Duration
	steps  []stepTime
	direct bool // both before and after it the mode is Direct
	short  bool // one of many phases: fewer pulls are enough
	starts bool // an agent that was stopped comes back
	// restarts is how often containerd restarts on which nodes; free leaves it
	// to the story to say.
	restarts map[string]int
	free     bool
	opened   time.Time // when pods could come to the node that joined
	extra    []promise

	names         []string // in use at its end
	missing       error    // too few pulls
	viaProxy      int      // blobs sent to the in-cluster proxy
	changed       []string // workloads whose template changed
	repeated      int      // blobs of running images sent to a node that had them
	bytes         int64    // of the puller's images, as sent by the registries
	filesFixed    int
	filesOther    int
	agentRestarts int
	containerd    map[string]int // restarts by node, of those that had any
	before        snapshot
}

// snapshot is what is compared between the beginning and the end of a phase.
type snapshot struct {
	generations map[string]int64  // of the workloads
	files       map[string]string // under the host directories: inode and time of change
	agents      map[string]int    // starts
	containerd  map[string]int    // starts
	downloads   []int             // how many there were, by registry
}

// play runs one phase: what it does, then pulls until there were enough.
func (d *demo) play(ctx context.Context, p *phase, do func(context.Context, *phase) error) error {
	d.out.title("%s", p.title)
	d.recorder.SetPhase(p.title)
	p.began = time.Now()
	before, err := d.snapshot(ctx)
	if err != nil {
		return err
	}
	p.before = before
	d.phases = append(d.phases, p)
	doErr := do(ctx, p)
	if doErr == nil {
		doErr = d.enoughPulls(ctx, p)
	}
	p.took = time.Since(p.began)
	p.names = d.puller.Names()
	p.missing = d.missingPulls(p, p.names)
	if err := d.measure(ctx, p); err != nil {
		return err
	}
	d.showPulls(p)
	if doErr != nil {
		return fmt.Errorf("%s: %w", p.title, doErr)
	}
	if d.shown(p) {
		return fmt.Errorf("%s: %w", p.title, errShown)
	}
	return nil
}

// errShown ends a story with a broken protocol.
var errShown = errors.New("pulls failed, as they must with a broken protocol")

// enoughPulls waits until each node pulled often enough under each name in use.
func (d *demo) enoughPulls(ctx context.Context, p *phase) error {
	ctx, cancel := context.WithTimeout(ctx, pullsWithin)
	defer cancel()
	return d.until(ctx, "enough pulls", func(context.Context) error {
		if d.shown(p) {
			return nil
		}
		return d.missingPulls(p, d.puller.Names())
	})
}

func (d *demo) missingPulls(p *phase, names []string) error {
	done := d.recorder.Done(p.title)
	perNode, perName := p.want()
	for _, node := range d.cluster.Nodes {
		sum := 0
		for _, name := range names {
			n := done[node.Name][name]
			sum += n
			if n < perName && d.puller.Asks(node.Name, name) {
				return fmt.Errorf("%s pulled %d times as %s, want %d", node.Name, n, name, perName)
			}
		}
		if sum < perNode {
			return fmt.Errorf("%s pulled %d times, want %d", node.Name, sum, perNode)
		}
	}
	if len(names) == 0 {
		return errors.New("no name is in use")
	}
	return nil
}

// want is how many pulls a node has to make, and how many under each name.
func (p *phase) want() (perNode, perName int) {
	if p.short {
		return minPulls / 3, minPerName / 3
	}
	return minPulls, minPerName
}

func (d *demo) snapshot(ctx context.Context) (snapshot, error) {
	s := snapshot{generations: map[string]int64{}, files: map[string]string{}, containerd: map[string]int{}}
	var (
		deployments appsv1.DeploymentList
		daemons     appsv1.DaemonSetList
		stateful    appsv1.StatefulSetList
		cron        batchv1.CronJobList
	)
	for _, list := range []client.ObjectList{&deployments, &daemons, &stateful, &cron} {
		if err := d.client.List(ctx, list); err != nil {
			return s, fmt.Errorf("list workloads: %w", err)
		}
	}
	for _, o := range deployments.Items {
		s.generations["Deployment "+o.Namespace+"/"+o.Name] = o.Generation
	}
	for _, o := range daemons.Items {
		s.generations["DaemonSet "+o.Namespace+"/"+o.Name] = o.Generation
	}
	for _, o := range stateful.Items {
		s.generations["StatefulSet "+o.Namespace+"/"+o.Name] = o.Generation
	}
	for _, o := range cron.Items {
		s.generations["CronJob "+o.Namespace+"/"+o.Name] = o.Generation
	}
	s.agents = d.standins.AgentStarts()
	for _, n := range d.cluster.Nodes {
		s.containerd[n.Name] = n.ContainerdStarts()
		if err := hostFiles(n, s.files); err != nil {
			return s, err
		}
	}
	for _, g := range d.cluster.Registries {
		downloads, err := g.Log.Downloads()
		if err != nil {
			return s, err
		}
		s.downloads = append(s.downloads, len(downloads))
	}
	return s, nil
}

// hostFiles notes every file under a node's host directories, by inode and time
// of change: a rewrite with the same content is seen too.
func hostFiles(n *machine.Node, files map[string]string) error {
	root := n.HostDirectories()
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		inode := info.Sys().(*syscall.Stat_t).Ino
		rel, err := filepath.Rel(root, path)
		files[n.Name+" "+rel] = fmt.Sprint(inode, info.ModTime().UnixNano())
		return err
	})
}

// measure fills in what a phase changed.
func (d *demo) measure(ctx context.Context, p *phase) error {
	after, err := d.snapshot(ctx)
	if err != nil {
		return err
	}
	for workload, generation := range after.generations {
		if was, existed := p.before.generations[workload]; existed && was != generation {
			p.changed = append(p.changed, workload)
		}
	}
	slices.Sort(p.changed)
	for file, now := range after.files {
		if p.before.files[file] != now {
			p.countFile(file)
		}
	}
	for file := range p.before.files {
		if after.files[file] == "" {
			p.countFile(file)
		}
	}
	for node, n := range after.agents {
		if was := p.before.agents[node]; was > 0 && !p.starts {
			p.agentRestarts += n - was
		}
	}
	p.containerd = map[string]int{}
	for node, n := range after.containerd {
		if was := p.before.containerd[node]; was > 0 && n > was { // none was: the node joined
			p.containerd[node] = n - was
		}
	}
	return d.measureDownloads(p)
}

func (p *phase) countFile(file string) {
	_, path, _ := strings.Cut(file, " ")
	if strings.HasPrefix(path, "registry.d8-system.svc") {
		p.filesFixed++
	} else {
		p.filesOther++
	}
}
