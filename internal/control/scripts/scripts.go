// Package scripts writes into the status of each NodeGroupConfiguration what nodes
// report about it. A switch does not depend on it. Start at Watch.
package scripts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
)

const (
	// scriptsEvery is waited before a write, so that the reports of many nodes
	// lead to one write.
	scriptsEvery = time.Second
	// mostScriptNodes is how many nodes a message names at most.
	mostScriptNodes = 10
	// everyNode in spec.nodeGroups or spec.bundles means all.
	everyNode = "*"
)

// summary is the reconciler of the status of all NodeGroupConfigurations.
type summary struct {
	client client.Client
	off    bool
	log    *slog.Logger
	told   bool // the log has said that a status cannot be written
}

// Watch makes the manager write the status of all NodeGroupConfigurations when one
// of them, or a report about one, has changed. If off is set, the status says
// that NodeGroupConfigurations are switched off.
func Watch(mgr ctrl.Manager, off bool, log *slog.Logger) error {
	s := &summary{client: mgr.GetClient(), off: off, log: log}
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](scriptsEvery, time.Minute)
	return ctrl.NewControllerManagedBy(mgr).Named("scripts").
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: limiter}).
		Watches(&deckhousev1alpha1.NodeGroupConfiguration{}, soon(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.RegistryNode{}, soon(), builder.WithPredicates(reportOfScripts())).
		Complete(s) //nolint:wrapcheck // the caller says what was done
}

// soon asks, a little later, for one reconciliation of everything.
func soon() handler.Funcs {
	ask := func(queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
		queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: "all"}}, scriptsEvery)
	}
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return handler.Funcs{
		CreateFunc: func(_ context.Context, _ event.CreateEvent, q queue) { ask(q) },
		UpdateFunc: func(_ context.Context, _ event.UpdateEvent, q queue) { ask(q) },
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, q queue) { ask(q) },
	}
}

// reportOfScripts lets through RegistryNodes that say something new about scripts.
func reportOfScripts() predicate.Funcs {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok := e.ObjectOld.(*v1alpha1.RegistryNode)
		after, same := e.ObjectNew.(*v1alpha1.RegistryNode)
		return !ok || !same || before.Spec.NodeGroup != after.Spec.NodeGroup || !slices.Equal(before.Status.Scripts, after.Status.Scripts)
	}}
}

// Reconcile writes every status that has changed.
func (s *summary) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var scripts deckhousev1alpha1.NodeGroupConfigurationList
	var nodes v1alpha1.RegistryNodeList
	if err := errors.Join(s.client.List(ctx, &scripts), s.client.List(ctx, &nodes)); err != nil {
		return reconcile.Result{}, fmt.Errorf("look at scripts and nodes: %w", err)
	}
	slices.SortFunc(nodes.Items, func(a, b v1alpha1.RegistryNode) int { return strings.Compare(a.Name, b.Name) })
	var failures []error
	for i := range scripts.Items {
		have := &scripts.Items[i]
		want := have.DeepCopy()
		want.Status = s.statusOf(have, nodes.Items)
		if equality.Semantic.DeepEqual(want.Status, have.Status) {
			continue
		}
		if err := s.client.Status().Patch(ctx, want, client.MergeFrom(have), cluster.Owner); err != nil {
			failures = append(failures, s.refused(ctx, have, err))
		}
	}
	return reconcile.Result{}, errors.Join(failures...)
}

// refused is the error where a status could not be written; nil when the object
// is gone, or when the platform's own CRD has no status.
func (s *summary) refused(ctx context.Context, script *deckhousev1alpha1.NodeGroupConfiguration, err error) error {
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of NodeGroupConfiguration %s: %w", script.Name, err)
	}
	if ctx.Err() == nil && !s.told {
		s.told = true
		s.log.Info("cannot write the status of a NodeGroupConfiguration: it is gone, or its CRD has no status", "script", script.Name)
	}
	return nil
}

// statusOf is how far a script is on the nodes that run it.
func (s *summary) statusOf(script *deckhousev1alpha1.NodeGroupConfiguration, nodes []v1alpha1.RegistryNode) deckhousev1alpha1.NodeGroupConfigurationStatus {
	var done int
	var failed, waiting []string
	because := ""
	for i := range nodes {
		node := &nodes[i]
		report := reportOf(script, node)
		if !concerns(script, node, report) {
			continue
		}
		current := report != nil && report.Generation == script.Generation
		switch {
		case current && report.Phase == v1alpha1.ScriptDone:
			done++
		case current && report.Phase == v1alpha1.ScriptFailed:
			failed = append(failed, node.Name)
			if because == "" {
				because = report.Message
			}
		default:
			waiting = append(waiting, node.Name)
		}
	}
	var message []string
	if s.off {
		message = append(message, "NodeGroupConfigurations are switched off: the registry controller runs with --scripts=off")
	}
	if len(failed) > 0 {
		message = append(message, fmt.Sprintf("Failed on %s. %s: %s", nodeNames(failed), failed[0], because))
	}
	if len(waiting) > 0 {
		message = append(message, "Waiting for "+nodeNames(waiting))
	}
	return deckhousev1alpha1.NodeGroupConfigurationStatus{
		ObservedGeneration: script.Generation,
		Nodes:              fmt.Sprintf("%d/%d", done, done+len(failed)+len(waiting)),
		Failed:             int32(len(failed)),
		Message:            strings.Join(message, "\n"),
	}
}

// reportOf is what a node reports about a script; nil when nothing.
func reportOf(script *deckhousev1alpha1.NodeGroupConfiguration, node *v1alpha1.RegistryNode) *v1alpha1.ScriptStatus {
	for i := range node.Status.Scripts {
		if have := &node.Status.Scripts[i]; have.Name == script.Name {
			return have
		}
	}
	return nil
}

// concerns reports whether the node runs the script. We know the node's group,
// but only the node knows its bundle: a report from it tells.
func concerns(script *deckhousev1alpha1.NodeGroupConfiguration, node *v1alpha1.RegistryNode, report *v1alpha1.ScriptStatus) bool {
	groups := script.Spec.NodeGroups
	inGroup := slices.Contains(groups, everyNode) || node.Spec.NodeGroup != "" && slices.Contains(groups, node.Spec.NodeGroup)
	return inGroup && (report != nil || slices.Contains(script.Spec.Bundles, everyNode))
}

// nodeNames joins the first names, and says how many more there are.
func nodeNames(names []string) string {
	if more := len(names) - mostScriptNodes; more > 0 {
		return fmt.Sprintf("%s (+%d more)", strings.Join(names[:mostScriptNodes], ", "), more)
	}
	return strings.Join(names, ", ")
}
