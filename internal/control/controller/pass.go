package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// errAgain asks for another pass although no object will change: something
// outside the cluster did not answer as it should. The queue's back-off says
// when.
var errAgain = errors.New("to be asked again")

// Reconciler is the controller's one reconciler. All events lead to the same
// key, so that passes never overlap; its fields need no lock but for those that
// watches read.
type Reconciler struct {
	cfg      Config
	protocol switchover.Protocol
	selector labels.Selector
	client   client.Client // reads from caches
	live     client.Reader // reads from the API server
	checker  *precheck.Runner
	check    precheck.Checker
	recorder events.EventRecorder
	wake     func()
	now      func() time.Time
	log      *slog.Logger

	// bases are the names that matter to watches.
	bases atomic.Pointer[[]layout.Name]

	// What only this process saw. Nothing depends on remembering it: after a
	// restart it is seen again.
	notReady  map[types.UID]time.Time
	uses      map[types.UID]use
	proved    int64
	refused   string
	trouble   string // why the last apply ended
	tried     map[types.UID]string
	conflicts map[types.UID]conflict
	sent      map[types.UID]sent
	headway   map[types.UID]headway
	foreign   string
	look      closeLook
	stored    time.Time // when the state was last written
	warned    map[string]bool
	upgrades  upgrades
}

// Reconcile is one pass, and says when the next one is due if nothing happens
// before.
func (r *Reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	result, err := r.pass(ctx)
	switch {
	case errors.Is(err, errLost):
		// Whoever wrote first has woken us, or will: the watch is behind.
		r.log.Debug("pass ended", "err", err)
	case errors.Is(err, errAgain):
	case ctx.Err() != nil:
		return reconcile.Result{}, nil //nolint:nilerr // the process ends
	default:
		return result, err
	}
	return reconcile.Result{Requeue: true}, nil //nolint:staticcheck // RequeueAfter has no back-off, and an error is logged as one
}

// pass is what the controller does, in full: look, decide, store, and only
// then make the cluster look like what was stored.
func (r *Reconciler) pass(ctx context.Context) (reconcile.Result, error) {
	st, err := r.load(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if st.problem != "" {
		r.log.Warn("the stored state cannot be read and is rebuilt from what is published", "err", st.problem)
	}
	s, err := r.observe(ctx, st)
	if err != nil {
		return reconcile.Result{}, err
	}
	if r.belongsToAnother(st, s) {
		return reconcile.Result{}, nil
	}
	doc, err := r.decide(st, s)
	if err != nil {
		return reconcile.Result{}, err
	}
	r.looked(s, doc)
	later := r.settleWords(st, &doc, s.world.Now)
	if doc.Schema > 0 {
		wrote, err := r.save(ctx, st, doc, s.world)
		if err != nil {
			return reconcile.Result{}, err
		}
		if wrote {
			r.stored = s.world.Now
		}
		r.announce(st.Conditions, doc.Conditions)
	}
	r.warn(s)
	r.checker.Want(r.checkRequest(r.protocol.CheckRequest(doc.State, s.world), s, s.inv))
	if !doc.blind() {
		err = r.apply(ctx, s, doc)
	}
	r.trouble = trouble(err)
	if moduleErr := r.applyModule(ctx, s, doc); err == nil {
		err = moduleErr
	}
	if err == nil && s.again {
		err = errAgain
	}
	return reconcile.Result{RequeueAfter: soonest(due(doc, s.world), later, s.later)}, err
}

// soonest is the smallest of those that are not 0; 0 when all are.
func soonest(times ...time.Duration) time.Duration {
	var next time.Duration
	for _, t := range times {
		if t > 0 && (next == 0 || t < next) {
			next = t
		}
	}
	return next
}

// decide is the document that follows from what was stored and what was seen.
func (r *Reconciler) decide(st stored, s *sight) (document, error) {
	doc := st.document
	doc.State = r.protocol.Advance(st.State, s.world)
	if r := doc.Desired.Registry; r == doc.Target && r != st.Desired.Registry {
		doc.Switch = doc.Generation // the platform begins to move
	}
	if doc.blind() {
		return doc, nil
	}
	doc, err := withHashKey(doc)
	if err != nil {
		return doc, err
	}
	return r.withIdentity(doc, s, s.world.Now)
}

// blind reports whether the document does not tell what should be. That is no
// wish that everything should go.
func (d document) blind() bool { return d.Target.IsZero() || d.Newer() }

// trouble is an error as users may read it: what was tried, and in one word how
// the API server refused. Its full answer may quote what we sent.
func trouble(err error) string {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		var lines []string
		for _, err := range several.Unwrap() {
			if line := trouble(err); line != "" {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines[:min(len(lines), 3)], "\n")
	}
	var status apierrors.APIStatus
	if err == nil || errors.Is(err, errLost) || !errors.As(err, &status) {
		return ""
	}
	tried, _, _ := strings.Cut(err.Error(), status.Status().Message)
	return tried + string(status.Status().Reason)
}

// due is when the protocol itself names a time: a node that is about to be
// left out, a proxy that is about to be unused for long enough, names that are
// to be looked at again. 0 when none does.
func due(doc document, w switchover.Observed) time.Duration {
	next := nextExclusion(w)
	sooner := func(at time.Time) {
		// What is past was acted upon in this pass.
		if left := at.Sub(w.Now); left > 0 && (next == 0 || left < next) {
			next = left
		}
	}
	if !doc.CleaningSince.IsZero() && doc.Desired.Proxy && w.Proxy.Exists {
		used := w.Proxy.LastUse
		if used.IsZero() {
			used = doc.CleaningSince
		}
		sooner(used.Add(w.Settings.ProxyIdle))
		sooner(doc.CleaningSince.Add(w.Settings.ProxyIdleMax))
	}
	own := []layout.Name{doc.Target.Name(), layout.NameOf(doc.Target.Upstream)}
	if doc.Ready() && len(doc.Desired.Layout.Routes) > len(slices.Compact(own)) {
		sooner(doc.NamesChecked.Add(w.Settings.RecheckNames))
	}
	return next
}

// belongsToAnother reports whether the objects that would be ours have another
// owner: a platform that has a registry module of its own. Nothing is touched
// then.
func (r *Reconciler) belongsToAnother(st stored, s *sight) bool {
	var found []string
	look := func(kind string, o client.Object) {
		if o.GetLabels()[v1alpha1.LabelManagedBy] != v1alpha1.ManagedBy {
			found = append(found, kind+" "+key(o))
		}
	}
	if st.secret != nil {
		look("Secret", st.secret)
	}
	if s.layoutSecret != nil {
		look("Secret", s.layoutSecret)
	}
	if s.proxy != nil {
		look("Deployment", s.proxy)
	}
	if s.service != nil {
		look("Service", s.service)
	}
	if len(found) == 0 {
		r.foreign = ""
		return false
	}
	if told := found[0]; r.foreign != told {
		r.foreign = told
		r.log.Error("objects of the registry module belong to somebody else; nothing is done", "objects", found,
			"label", v1alpha1.LabelManagedBy+"="+v1alpha1.ManagedBy)
	}
	return true
}

// announce tells by log and Event which steps were reached or lost.
func (r *Reconciler) announce(before, after []metav1.Condition) {
	for _, c := range after {
		was := slices.IndexFunc(before, func(b metav1.Condition) bool { return b.Type == c.Type })
		if was >= 0 && before[was].Status == c.Status || was < 0 && c.Status != metav1.ConditionTrue {
			continue
		}
		r.log.Info("condition changed", "step", c.Type, "status", string(c.Status))
		r.eventf(moduleReference(), c.Type, "%s is %s", c.Type, c.Status)
	}
}

// eventf tells users what happened to an object. It must carry no secret.
func (r *Reconciler) eventf(object client.Object, reason, note string, args ...any) {
	if r.recorder != nil {
		r.recorder.Eventf(object, nil, corev1.EventTypeNormal, reason, "Switch", "%s", noteOf(note, args...))
	}
}

// warningf is eventf for what users should do something about.
func (r *Reconciler) warningf(object client.Object, reason, note string, args ...any) {
	if r.recorder != nil {
		r.recorder.Eventf(object, nil, corev1.EventTypeWarning, reason, "Report", "%s", noteOf(note, args...))
	}
}

// longestNote is what the API server takes, in bytes; longer ones it refuses.
const longestNote = 1024

func noteOf(note string, args ...any) string {
	text := fmt.Sprintf(note, args...)
	if len(text) <= longestNote {
		return text
	}
	return strings.ToValidUTF8(text[:longestNote-len("…")], "") + "…"
}
