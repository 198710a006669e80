package controller

import (
	"context"
	"errors"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/nodes"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// errAgain asks for another pass although no object will change, because something
// outside the cluster did not answer as it should. The queue's back-off decides
// when.
var errAgain = errors.New("to be asked again")

// Reconciler joins the parts, which do not know each other. All events lead to one
// key, so passes never overlap and nothing here needs a lock.
type Reconciler struct {
	protocol switchover.Protocol
	specs    *specs
	cluster  *cluster.Client
	store    *state.Store
	nodes    *nodes.Keeper
	secrets  *pullsecret.Keeper
	mover    *platform.Mover
	own      own
	images   *images
	reports  *reports
}

// own is what runs of ours: workloads, and the stores of nodes.
type own struct {
	*component.Keeper
	stores *nodeStores
}

// Reconcile makes one pass. The result says when the next one is due if no event
// comes before.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	result, err := r.pass(ctx)
	switch {
	case errors.Is(err, cluster.ErrLost):
		// The watch will show what the other writer wrote.
		r.cluster.Log.Debug("pass ended", "err", err)
	case errors.Is(err, errAgain):
	case ctx.Err() != nil:
		return reconcile.Result{}, nil //nolint:nilerr // the process ends
	default:
		return result, err
	}
	return reconcile.Result{Requeue: true}, nil //nolint:staticcheck // RequeueAfter has no back-off, and an error is logged as one
}

// pass is all that the controller does: observe, decide, store, and only then
// change the cluster.
func (r *Reconciler) pass(ctx context.Context) (reconcile.Result, error) {
	stored, err := r.store.Load(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if stored.Problem != "" {
		r.cluster.Log.Warn("the stored state cannot be read; it is rebuilt from what is published", "err", stored.Problem)
	}
	v, progress, err := r.observe(ctx, stored.Document)
	if err != nil || r.reports.belongsToAnother(stored, v) {
		return reconcile.Result{}, err
	}
	doc, err := r.decide(stored, v)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.images.remember(v.Observed, doc)
	later := r.store.SettleMessages(stored, &doc, v.Observed.Now)
	if doc.Schema > 0 {
		err := r.store.Save(ctx, stored, &doc, v.Observed)
		if errors.Is(err, state.ErrTooLarge) {
			return reconcile.Result{}, errors.Join(err, r.reports.stopped(ctx, v, err))
		}
		if err != nil {
			return reconcile.Result{}, err
		}
		r.reports.announce(stored.Conditions, doc.Conditions)
		r.reports.rotated(v.Rotated)
	}
	r.reports.warn(func(first func(...any) bool) {
		r.nodes.Warn(v.Snapshot, first)
		progress.Warn(r.cluster.Events, first)
	})
	v.Doc, v.Reads = doc, r.protocol.Reads(doc.State, v.Observed)
	r.reports.metrics.set(doc)
	r.images.want(r.protocol, v)
	if r.tells(doc, v.Observed) {
		err = r.apply(ctx, v)
	}
	r.reports.problem, r.reports.cut = problemOf(err), r.store.Cut()
	if moduleErr := r.reports.applyModule(ctx, v, r.own.UpgradeMessage(v)); err == nil {
		err = moduleErr
	}
	if err == nil && v.Again {
		err = errAgain
	}
	return reconcile.Result{RequeueAfter: state.Soonest(due(v), later, v.Later)}, err
}

// tells reports whether the document says what should be. Nothing of the cluster
// is changed for one that does not.
func (r *Reconciler) tells(doc state.Document, o switchover.Observed) bool {
	return !doc.Target.IsZero() && !r.protocol.Unreadable(doc.State, o)
}

// decide makes the new document from the stored one and from what was observed.
func (r *Reconciler) decide(stored state.Stored, v *state.View) (state.Document, error) {
	doc := v.Doc
	doc.Grants = v.Grants
	if err := r.refuseWhatCannotFit(doc, v); err != nil {
		return doc, err
	}
	doc.State = r.protocol.Advance(stored.State, v.Observed)
	if r := doc.Desired.Registry; r == doc.Target && r != stored.Desired.Registry {
		doc.Switch = doc.Generation // the platform begins to move: a new switch
	}
	if !r.tells(doc, v.Observed) {
		return doc, nil
	}
	doc, err := state.WithHashKey(doc)
	if err != nil {
		return doc, err
	}
	return r.store.WithIdentity(doc, v)
}

// due is when the protocol needs a pass although nothing happens: when a node is
// left out, when the proxy has been unused for long enough, when names are checked
// again. It is 0 when there is no such time.
func due(v *state.View) time.Duration {
	doc, o := v.Doc, v.Observed
	next := state.Soonest(nodes.NextExclusion(o), nodes.NextSilence(o))
	sooner := func(at time.Time) {
		// This pass has handled what is past.
		if left := at.Sub(o.Now); left > 0 {
			next = state.Soonest(next, left)
		}
	}
	sooner(doc.BelievesAgain())
	stops := doc.Desired.Proxy && o.Proxy.Exists || !doc.Desired.Store.IsZero() && o.Store.Exists
	if !doc.CleaningSince.IsZero() && stops {
		used := o.Proxy.LastUse
		if o.Store.LastUse.After(used) {
			used = o.Store.LastUse
		}
		if used.IsZero() {
			used = doc.CleaningSince
		}
		sooner(used.Add(o.Settings.ProxyIdle))
		sooner(doc.CleaningSince.Add(o.Settings.ProxyIdleMax))
	}
	own := []layout.Name{doc.Target.Name(), layout.NameOf(doc.Target.Upstream)}
	if doc.Reached() && len(doc.Desired.Layout.Routes) > len(slices.Compact(own)) {
		sooner(doc.NamesChecked.Add(o.Settings.RecheckNames))
	}
	return next
}
