package nodestore

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/report"
)

// errPullSecret is why a kubelet that takes static pods starts no store.
var errPullSecret = errors.New("the kubelet gives its image to no pod without a pull secret")

// Keeper keeps the files of a store and its static pod: nodeservices.Keeper.
type Keeper interface {
	Apply(c nodeservices.Config) (nodeservices.Found, error)
	Look(c nodeservices.Config) (nodeservices.Found, error)
	Remove() error
	RemoveManifest() error
}

// Place is what must be known after a restart of the agent: that something was written, and
// the kubelet's folder of static pods then, or that there was none: a DaemonSet runs the store.
type Place struct {
	StaticPods string `json:"staticPods,omitempty"`
	DaemonSet  bool   `json:"daemonSet,omitempty"`
}

// Options are a Part's parts.
type Options struct {
	Kube dynamic.Interface
	// Open is the Keeper of this node, for a folder of static pods; close ends it.
	Open func(staticPods string) (k Keeper, end func(), err error)
	// StaticPods finds that folder: nodeservices.StaticPodPath.
	StaticPods func() (string, error)
	// Status is where the process says how it is.
	Status string
	Place  Place
	Save   func(Place)
	// Own is the RegistryNode as it is now, and Wake asks for a pass.
	Own  func() *v1alpha1.RegistryNode
	Wake func()
	Log  *slog.Logger
	// Every is for tests: how often what may have changed is looked at; 0 is 10 seconds.
	Every time.Duration
}

// Part is that part of the agent. One goroutine calls Converge; Run is another one's.
type Part struct {
	Options
	process process

	mu   sync.Mutex
	seen seen // by the last pass
}

// New makes a Part.
func New(o Options) *Part {
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	return &Part{Options: o, process: process{url: o.Status}}
}

// wanted is the store that a node is to run; nil for none. A node that is left runs none.
func wanted(own *v1alpha1.RegistryNode) *v1alpha1.StoreSpec {
	if own == nil || own.Spec.Leave {
		return nil
	}
	return own.Spec.Store
}

// Converge makes the node what spec.store says. While it is not known, all stays.
func (p *Part) Converge(ctx context.Context, r *report.Report) {
	switch spec := wanted(r.Own); {
	case r.Own == nil:
	case spec != nil:
		p.keep(ctx, r, spec)
	case p.Place != Place{} || r.Own.Status.Store != nil:
		p.remove(ctx, r)
	}
}

// keep writes what is to be there, and reports.
func (p *Part) keep(ctx context.Context, r *report.Report, spec *v1alpha1.StoreSpec) {
	content, errSecret := p.read(ctx)
	c, err := configOf(spec)
	if err == nil {
		err = errSecret
	}
	if err == nil {
		err = content.into(&c)
	}
	t := told{spec: spec, config: c}
	t.Answer = p.process.ask(ctx)
	t.found, t.none, t.wrong = p.write(c, spec, t.Answers, err)
	p.note(seen{content.version, t.Answer})
	r.Status.Store = t.status()
	r.Retry = r.Retry || t.wrong != nil || r.Status.Store.State != v1alpha1.StoreServing
}

// write brings what is wanted to the node's files. With an error about what is wanted, it only
// looks. Without approval the pod stays as it is, and its files do not. Where a DaemonSet runs
// the store, or still does, there are only files: two stores have no room on one port. None says
// why the kubelet takes no static pods, or not this one: a static pod that answers stays.
func (p *Part) write(c nodeservices.Config, spec *v1alpha1.StoreSpec, answers bool, wrong error) (found nodeservices.Found, none, err error) {
	folder, none, err := p.folder()
	if err == nil && none == nil && spec.PullSecret && (spec.DaemonSet || !answers) {
		folder, none, err = "", errPullSecret, p.at(folder, Keeper.RemoveManifest)
	}
	if err != nil {
		return found, none, err
	}
	k, end, err := p.Open(folder)
	if err != nil {
		return found, none, err
	}
	defer end()
	if wrong != nil {
		found, _ := k.Look(c) // what is wrong already is said
		return found, none, wrong
	}
	p.save(Place{StaticPods: folder, DaemonSet: none != nil}) // before anything is written
	if none != nil || spec.Approved == spec.Version && !spec.DaemonSet {
		found, err = k.Apply(c)
		return found, none, err
	}
	found, err = p.besidePod(k, c, spec)
	return found, none, err
}

// besidePod writes the files alone, beside a static pod that stays as it is, or a DaemonSet's.
func (p *Part) besidePod(k Keeper, c nodeservices.Config, spec *v1alpha1.StoreSpec) (found nodeservices.Found, err error) {
	if spec.DaemonSet {
		// It was written before the node heard of that. A kubelet that had no port for it does not
		// try again: it is written anew when the DaemonSet is gone.
		if err := k.RemoveManifest(); err != nil {
			return found, err
		}
	}
	files, end, err := p.Open("")
	if err != nil {
		return found, err
	}
	defer end()
	_, err = files.Apply(c)
	found, errLook := k.Look(c)
	if err == nil {
		err = errLook
	}
	return found, err
}

// folder is that of static pods; without one, none says why. While the kubelet is not seen, it
// is being restarted, and the folder is as it was. What was written to another one is taken away
// first.
func (p *Part) folder() (now string, none, err error) {
	now, none = p.staticPods()
	switch was := p.Place.StaticPods; {
	case none != nil:
		if was != "" {
			none = nil
		}
		return was, none, nil
	case was != "" && was != now:
		return now, nil, p.at(was, Keeper.Remove)
	}
	return now, nil, nil
}

// staticPods is StaticPods, but for the root: files of others are there.
func (p *Part) staticPods() (string, error) {
	folder, err := p.StaticPods()
	if err == nil && path.Clean("/"+folder) == "/" {
		return "", nodeservices.ErrNoStaticPods
	}
	return folder, err
}

// at does something where static pods are in a folder.
func (p *Part) at(folder string, do func(Keeper) error) error {
	k, end, err := p.Open(folder)
	if err != nil {
		return err
	}
	defer end()
	return do(k)
}

// remove takes the store from the node: the pod, so that the kubelet tells the process to stop,
// then its files and its key. What was kept stays, for a store that comes again and for whoever
// wants it. It has an end when the process has ended.
func (p *Part) remove(ctx context.Context, r *report.Report) {
	var before v1alpha1.StoreStatus
	if r.Own.Status.Store != nil {
		before = *r.Own.Status.Store
	}
	gone := func() error {
		folder := p.Place.StaticPods
		if folder == "" {
			found, none := p.staticPods()
			switch {
			case none == nil: // what an earlier agent knew may be lost
				folder = found
			case p.Place.DaemonSet || before.DaemonSet: // there are files alone
			case before.Request != "":
				return none // it was another day
			default:
				return nil // nothing was written
			}
		}
		return p.at(folder, Keeper.Remove)
	}
	s := &v1alpha1.StoreStatus{Request: before.Request, DaemonSet: before.DaemonSet, State: v1alpha1.StoreWaiting, Message: "it was told to stop"}
	switch err := gone(); {
	case err != nil:
		s.State, s.Message = v1alpha1.StoreFailing, "take it away: "+report.Brief(err)
	case p.process.ask(ctx).Answers:
	default:
		p.save(Place{})
		p.Log.Info("the store of this node is gone; what it kept stays")
		return
	}
	r.Status.Store, r.Retry = s, true
}

func (p *Part) save(place Place) {
	if place != p.Place {
		p.Place = place
		p.Save(place)
	}
}

// seen is what a pass went by, beside the RegistryNode.
type seen struct {
	secret string // its version
	Answer
}

func (p *Part) note(s seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = s
}

func (p *Part) last() seen {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

// Run asks for a pass when the Secret has changed, or what the process says, until the context
// ends. Only while the node is to run a store it looks at either.
func (p *Part) Run(ctx context.Context) {
	for {
		select {
		case <-time.After(p.Every):
		case <-ctx.Done():
			return
		}
		if wanted(p.Own()) == nil {
			continue
		}
		content, err := p.read(ctx)
		now := seen{content.version, p.process.ask(ctx)}
		now.LastClients = p.last().LastClients // they alternate, and are told of with the use
		if before := p.last(); now != before && (err == nil || now.Answer != before.Answer) {
			p.Wake()
		}
	}
}
