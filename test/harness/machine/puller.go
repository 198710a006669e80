package machine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// usesEvery is how often the names in use are read again.
	usesEvery = 100 * time.Millisecond
	// pullPause is between two pulls of a node, if nothing else is set.
	pullPause = 30 * time.Millisecond
)

// Puller has every node pull all the time, under every name in use: content
// that the node does not have, at the first attempt, with the credentials that
// a pod using the name would have at that moment.
type Puller struct {
	nodes    []*CRI
	client   client.Client
	view     client.Reader
	recorder *Recorder
	bases    []string
	images   []Image

	mu   sync.Mutex
	uses map[string][]Use
	only map[string]string // the one name that a node is asked for
	pace
}

// pace is how fast a Puller goes.
type pace struct {
	gap  time.Duration // between two pulls of a node
	turn sync.RWMutex  // held to read by each pull
}

// NewPuller makes a puller of images that no workload runs. Bases are all names
// that platform images may start with.
func NewPuller(nodes []*CRI, cl client.Client, view *View, rec *Recorder, bases []string, images []Image) *Puller {
	return &Puller{nodes: nodes, client: cl, view: view, recorder: rec, bases: bases, images: images, only: map[string]string{}, pace: pace{gap: pullPause}}
}

// Names are the names in use, sorted.
func (p *Puller) Names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name := range p.uses {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// SetPause sets the pause between two pulls of a node.
func (p *Puller) SetPause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap = d
}

// Rest waits for the end of all pulls, and no other begins before resume is called:
// whoever pulls the same images meanwhile has them for itself.
func (p *Puller) Rest() (resume func()) {
	p.turn.Lock()
	return p.turn.Unlock
}

func (p *Puller) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gap
}

// Only has a node pull under one name; empty: under all again.
func (p *Puller) Only(node, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.only[node] = name
}

// Asks reports whether a node is asked to pull under a name.
func (p *Puller) Asks(node, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.only[node] == "" || p.only[node] == name
}

// namesFor are the names that a node is asked to pull under now.
func (p *Puller) namesFor(node string) []string {
	return slices.DeleteFunc(p.Names(), func(name string) bool { return !p.Asks(node, name) })
}

// Run pulls until ctx ends.
func (p *Puller) Run(ctx context.Context) error {
	if err := p.look(ctx, p.view); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for pause(ctx, usesEvery) == nil {
			if err := p.look(ctx, p.view); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	for i, node := range p.nodes {
		group.Go(func() error { return p.pullOn(ctx, node, i) })
	}
	return group.Wait()
}

func (p *Puller) look(ctx context.Context, reader client.Reader) error {
	uses, err := Uses(ctx, reader, p.bases)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uses = uses
	return nil
}

func (p *Puller) pullOn(ctx context.Context, node *CRI, offset int) error {
	for i := offset; pause(ctx, p.pause()) == nil; i++ {
		names := p.namesFor(node.NodeName())
		if len(names) == 0 {
			continue
		}
		// The image changes with every round, the name with every pull.
		image := p.images[(i/len(names)+offset*len(p.images)/3)%len(p.images)]
		err := p.pullOnce(ctx, node, names[i%len(names)], image)
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// pullOnce returns an error only when the pull could not be tried.
func (p *Puller) pullOnce(ctx context.Context, node *CRI, name string, image Image) error {
	p.turn.RLock()
	defer p.turn.RUnlock()
	if err := node.Forget(ctx, image); err != nil {
		return err
	}
	phase := p.recorder.Phase()
	use, ok := p.anyUse(name)
	if !ok {
		return nil // the name went out of use meanwhile
	}
	reference := name + "@" + image.Digest
	started := time.Now()
	logins, err := Logins(ctx, p.client, use.Namespace, use.Secrets, reference)
	if err != nil {
		return err
	}
	err = node.Pull(ctx, reference, logins[0])
	if ctx.Err() != nil {
		return nil
	}
	pull := Pull{Phase: phase, Node: node.NodeName(), Name: name, Reference: reference, Image: image.Digest, At: started, Took: time.Since(started), Err: err}
	if err != nil {
		pull.Err = fmt.Errorf("as %s: %w", use.By, err)
		if lookErr := p.look(ctx, p.client); lookErr != nil {
			return lookErr
		}
		_, inUse := p.anyUse(name)
		pull.Void = !inUse
	}
	if Interrupted(err) {
		pull.Interrupted = true
		if err := node.Answers(ctx); err != nil {
			return err
		}
		pull.Retry = node.Pull(ctx, reference, logins[0])
	}
	p.recorder.Add(pull)
	return nil
}

// anyUse picks one of the places where a name is in use.
func (p *Puller) anyUse(name string) (Use, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	uses := p.uses[name]
	if len(uses) == 0 {
		return Use{}, false
	}
	return uses[rand.IntN(len(uses))], true
}
