package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/d8-registry/registry/test/harness/kube"
	"github.com/d8-registry/registry/test/harness/machine"
)

const (
	fixedName = "registry.d8-system.svc:5001/system/deckhouse"
	// pullEvery is the pause between two pulls of a node.
	pullEvery = time.Second
	// fewest is how often each node and the client pod have to pull in a phase.
	fewest = 5
	// mostShown are the failures that are printed of a phase.
	mostShown = 5
)

// restarts are the phases in which containerd is restarted on w1.
func restarts(phase string) bool { return phase == phaseToDirect || phase == phaseLegacy }

// pulls runs in the background during the story: every node pulls with its
// containerd, and so does a pod.
type pulls struct {
	cluster  *kube.Cluster
	view     *machine.View
	recorder *machine.Recorder
	images   []machine.Image
	bases    []string
	ctx      context.Context //nolint:containedctx // of the pullers, which outlive the step that starts them
	cancel   context.CancelFunc

	mu      sync.Mutex
	nodes   map[string]*nodePulls
	errs    []error
	client  kube.ClientCounts // at the beginning of the phase
	kubelet map[string]int    // failed pulls of kubelets by pod, at the beginning of the phase
	phases  []phaseCount
}

// nodePulls is the puller of one node.
type nodePulls struct {
	*machine.Puller
	cancel context.CancelFunc
	done   chan struct{}
}

// phaseCount is what came of a phase.
type phaseCount struct {
	phase                string
	nodes, nodesFailed   int
	client, clientFailed int
}

func startPulls(ctx context.Context, s *story) (*pulls, error) {
	view, err := machine.NewView(ctx, s.cluster.API.Admin)
	if err != nil {
		return nil, err
	}
	p := &pulls{
		cluster: s.cluster, view: view, recorder: machine.NewRecorder(s.now.phase), images: s.cluster.Spare,
		bases: []string{s.a().Base(), s.b().Base(), fixedName}, nodes: map[string]*nodePulls{},
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	if err := until(ctx, "a first look at what is in use", time.Minute, func(ctx context.Context) error {
		_, err := machine.Uses(ctx, view, p.bases)
		return err
	}); err != nil {
		return p, err
	}
	for _, n := range s.nodes() {
		p.add(n) //nolint:contextcheck // it pulls until the story's end
	}
	if p.client, err = s.cluster.ClientCounts(ctx); err != nil {
		return p, err
	}
	p.kubelet, err = s.kubeletFailures(ctx)
	return p, err
}

// add has a node pull from now on.
func (p *pulls) add(n *kube.Node) {
	ctx, cancel := context.WithCancel(p.ctx)
	np := &nodePulls{
		Puller: machine.NewPuller([]*machine.CRI{n.CRI}, p.cluster.Client, p.view, p.recorder, p.bases, p.images),
		cancel: cancel, done: make(chan struct{}),
	}
	np.SetPause(pullEvery)
	p.mu.Lock()
	p.nodes[n.Name] = np
	p.mu.Unlock()
	go func() {
		defer close(np.done)
		if err := np.Run(ctx); err != nil && ctx.Err() == nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errs = append(p.errs, fmt.Errorf("pulls of %s: %w", n.Name, err))
		}
	}()
}

// remove has a node pull no more.
func (p *pulls) remove(name string) {
	p.mu.Lock()
	np := p.nodes[name]
	delete(p.nodes, name)
	p.mu.Unlock()
	if np != nil {
		np.cancel()
		<-np.done
	}
}

// only has all nodes pull under one name.
func (p *pulls) only(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for node, np := range p.nodes {
		np.Only(node, name)
	}
}

// stop ends all pulls.
func (p *pulls) stop() {
	for _, name := range p.names() {
		p.remove(name)
	}
	p.cancel()
}

// names are the nodes that pull.
func (p *pulls) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name := range p.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// enough waits until every node and the client pod pulled a few times more in
// this phase.
func (s *story) enough(ctx context.Context, more int) error {
	client, err := s.cluster.ClientCounts(ctx)
	if err != nil {
		return err
	}
	before := s.pulls.recorder.Pulls(s.now.phase)
	return until(ctx, "enough pulls", 2*time.Minute, func(ctx context.Context) error {
		if err := s.pulls.ended(); err != nil {
			return err
		}
		done := map[string]int{}
		for _, pull := range s.pulls.recorder.Pulls(s.now.phase)[len(before):] {
			done[pull.Node]++
		}
		for _, node := range s.pulls.names() {
			if done[node] < more {
				return fmt.Errorf("%s pulled %d times, want %d", node, done[node], more)
			}
		}
		now, err := s.cluster.ClientCounts(ctx)
		if err == nil && now.Done+now.Failed-client.Done-client.Failed < more {
			err = fmt.Errorf("the client pulled %d times, want %d", now.Done+now.Failed-client.Done-client.Failed, more)
		}
		return err
	})
}

// endPhase prints the pulls of the phase that ends, and demands that none
// failed.
func (s *story) endPhase(ctx context.Context, next string) error {
	phase := s.now.phase
	if s.pulls == nil || phase == "" {
		return nil
	}
	if err := s.enough(ctx, fewest); err != nil {
		return err
	}
	p := s.pulls
	p.recorder.SetPhase(next)
	s.out.line("\nPulls: %s", phase)
	rows := [][]string{{"by", "done", "failed", "cut off by a restart, then done", "names"}}
	count := phaseCount{phase: phase}
	var failures []string
	for _, node := range s.nodes() {
		r, bad := p.row(phase, node.Name)
		rows = append(rows, r.cells())
		failures = append(failures, bad...)
		count.nodes, count.nodesFailed = count.nodes+r.done, count.nodesFailed+len(bad)
	}
	now, err := s.cluster.ClientCounts(ctx)
	if err != nil {
		return err
	}
	count.client, count.clientFailed = now.Done-p.client.Done, now.Failed-p.client.Failed
	rows = append(rows, []string{"client pod", strconv.Itoa(count.client), strconv.Itoa(count.clientFailed), "", strings.Join(addresses(p.client, now), " ")})
	for _, f := range now.Failures[min(len(p.client.Failures), len(now.Failures)):] {
		failures = append(failures, fmt.Sprintf("client pod, %s: %s", f.Reference, f.Error))
	}
	p.client = now
	p.phases = append(p.phases, count)
	s.out.table(rows)
	for _, f := range failures[:min(len(failures), mostShown)] {
		s.out.say("✗ %s", f)
	}
	s.expect("no pull failed: "+phase, failedPulls(count.nodesFailed, count.clientFailed))
	s.expect("no kubelet failed to pull an image of the platform: "+phase, s.kubeletExpect(ctx))
	return p.ended()
}

// ended is why a puller ended by itself.
func (p *pulls) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.errs...)
}

func failedPulls(nodes, client int) error {
	if nodes+client == 0 {
		return nil
	}
	return fmt.Errorf("%d of nodes failed, %d of the client pod", nodes, client)
}

// pullRow is what a node pulled in a phase.
type pullRow struct {
	node      string
	done, cut int
	failed    int
	names     []string
}

func (r pullRow) cells() []string {
	return []string{r.node, strconv.Itoa(r.done), strconv.Itoa(r.failed), strconv.Itoa(r.cut), strings.Join(r.names, " ")}
}

// row counts the pulls of a node; those that failed for no good reason are
// returned as text.
func (p *pulls) row(phase, node string) (pullRow, []string) {
	r := pullRow{node: node}
	var bad []string
	for _, pull := range p.recorder.Pulls(phase) {
		switch {
		case pull.Node != node || pull.Err != nil && pull.Void:
		case pull.Err == nil:
			r.done++
			if !slices.Contains(r.names, pull.Name) {
				r.names = append(r.names, pull.Name)
			}
		case pull.Interrupted && restarts(phase) && pull.Retry == nil:
			r.cut++
		default:
			r.failed++
			bad = append(bad, pull.String())
		}
	}
	slices.Sort(r.names)
	return r, bad
}

// addresses are those through which the client pulled meanwhile.
func addresses(before, now kube.ClientCounts) []string {
	var all []string
	for address, n := range now.ByAddress {
		if n > before.ByAddress[address] {
			all = append(all, address)
		}
	}
	slices.Sort(all)
	return all
}

// kubeletFailures counts, by node and pod, how often a kubelet said that an
// image could not be pulled.
func (s *story) kubeletFailures(ctx context.Context) (map[string]int, error) {
	var events corev1.EventList
	if err := s.client.List(ctx, &events); err != nil {
		return nil, fmt.Errorf("list Events: %w", err)
	}
	failed := map[string]int{}
	for _, e := range events.Items {
		if e.Reason == "Failed" && strings.Contains(e.Message, "pull image") {
			failed[fmt.Sprintf("%s %s/%s: %s", e.Source.Host, e.InvolvedObject.Namespace, e.InvolvedObject.Name, brief(e.Message))] += int(max(e.Count, 1))
		}
	}
	return failed, nil
}

// kubeletExpect is an error if a kubelet failed to pull since the last look. On
// a node that is new, pods that tolerate everything may be tried before its
// agent runs: they are printed and are no failure.
func (s *story) kubeletExpect(ctx context.Context) error {
	now, err := s.kubeletFailures(ctx)
	if err != nil {
		return err
	}
	before := s.pulls.kubelet
	s.pulls.kubelet = now
	var failed []string
	early := 0
	for what, n := range now {
		node, pod, _ := strings.Cut(what, " ")
		switch again := n - before[what]; {
		case again <= 0:
		case strings.HasPrefix(pod, system+"/registry-uninstall:"):
			s.out.say("Helm's own pod names the registry that the release was rendered for, until the controller gives it the present one (ADR 10): %s", pod)
		case strings.HasPrefix(pod, system+"/"+storePod+":") && s.now.phase == phaseLegacy && again <= 3:
			s.out.say("so the controller learns that a static pod does not get the image; a DaemonSet does: %s", pod)
		case s.pulls.isNew(node):
			early += again
		default:
			failed = append(failed, what)
		}
	}
	if early > 0 {
		s.out.say("%d pulls of kubelets were tried before the new node's agent ran, and tried again", early)
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "; "))
	}
	return nil
}

// isNew is true for a node that did not pull from the beginning on.
func (p *pulls) isNew(node string) bool { return node == addedNode || node == reimagedNode }

// total prints the pulls of all phases.
func (p *pulls) total(s *story) {
	rows := [][]string{{"phase", "pulls of nodes", "failed", "of the client pod", "failed"}}
	sum := phaseCount{phase: "all"}
	add := func(c phaseCount) {
		rows = append(rows, []string{c.phase, strconv.Itoa(c.nodes), strconv.Itoa(c.nodesFailed), strconv.Itoa(c.client), strconv.Itoa(c.clientFailed)})
	}
	for _, c := range p.phases {
		add(c)
		sum.nodes, sum.nodesFailed = sum.nodes+c.nodes, sum.nodesFailed+c.nodesFailed
		sum.client, sum.clientFailed = sum.client+c.client, sum.clientFailed+c.clientFailed
	}
	add(sum)
	s.out.table(rows)
}
