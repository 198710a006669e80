package platform

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
)

// DryRun tries all patches of a measurement before deckhouse-registry names a new target. If one
// is refused, components and workloads stay where they were.
func (m *Mover) DryRun(ctx context.Context, v *state.View, p Progress) error {
	if v.Doc.Desired.Registry.IsZero() {
		return nil
	}
	if have := v.Registry; have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] == v.Doc.RegistryChecksum() {
		return nil // it names the target already: a repair does not wait
	}
	if len(p.next()) == 0 {
		return nil
	}
	return m.dryRunAll(ctx, p, v.Doc)
}

// Repoint begins the rollouts that may begin now by the same measurement. Before that it tries every
// patch that is still to be made in a dry run: if a policy engine or a quota
// refuses one, nothing is changed.
func (m *Mover) Repoint(ctx context.Context, v *state.View, p Progress) error {
	if len(p.todo) == 0 || !v.Doc.Desired.Repoint {
		m.refused = nil
		clear(m.tried)
	}
	m.forget(v.Doc.Switch)
	next := p.next()
	if len(next) == 0 {
		return nil
	}
	if err := m.dryRunAll(ctx, p, v.Doc); err != nil {
		return err
	}
	var lost error
	for _, ro := range next {
		if m.leftIn(ro.GetUID(), v.Doc.Switch) != "" {
			continue // found by the dry run; the next pass lists it
		}
		err := m.cluster.Repoint(ctx, ro.Workload, ro.Repointing)
		if errors.Is(err, cluster.ErrLost) {
			lost = err
			continue
		}
		if err != nil {
			return fmt.Errorf("re-point %s: %w", ro, err)
		}
		m.remember(ro, v.Doc)
		m.cluster.Log.Info("workload re-pointed", "workload", ro.String(), "base", v.Doc.Desired.Workloads.String())
		m.cluster.Events.Normalf(ro.Object, "RegistryRepointed", "images now start with %s", v.Doc.Desired.Workloads)
	}
	return lost
}

// mostRefusals is how many refusals end a dry run.
const mostRefusals = 10

// dryRunAll tries every rollout that is still to come, and remembers all that are
// refused. If an object has changed meanwhile, the others are still tried, and
// the next pass tries that one again. What is not in a namespace of the platform
// is left where it is if it is refused: whoever made it may not stop the others.
func (m *Mover) dryRunAll(ctx context.Context, p Progress, doc state.Document) error {
	var lost, first error
	var refused []string
	for _, ro := range p.todo {
		err := m.dryRunOne(ctx, ro, doc)
		switch {
		case err == nil:
			continue
		case errors.Is(err, cluster.ErrLost):
			lost = err
			continue
		}
		err = fmt.Errorf("try to re-point %s: %w", ro, err)
		no := cluster.Refusal(err)
		if no == nil { // the error is not about this workload
			first = err
			break
		}
		if ro.Foreign {
			m.leave(ro.GetUID(), doc.Switch, "the API server refuses the change: "+string(no.Reason))
			continue
		}
		if refused = append(refused, ro.String()+": "+no.Message); first == nil {
			first = err
		}
		if len(refused) == mostRefusals {
			break
		}
	}
	m.refused = refused
	if first != nil {
		return first
	}
	return lost
}

// dryRunOne tries the patch of one workload. Before that it asks the API server,
// by a server-side apply in a dry run, whether another manager owns the images.
// Only managers that are known to apply them again count.
//
// The patch itself is no server-side apply: with one, a later patch that does not
// repeat a container's image would remove it.
func (m *Mover) dryRunOne(ctx context.Context, ro Rollout, doc state.Document) error {
	id := string(ro.GetUID()) + "/" + ro.GetResourceVersion() + "/" + strconv.FormatInt(doc.Switch, 10)
	if m.tried[ro.GetUID()] == id || m.leftIn(ro.GetUID(), doc.Switch) != "" {
		return nil
	}
	wanted := client.ApplyConfigurationFromUnstructured(ro.Repointed(ro.Repointing))
	if err := m.cluster.Apply(ctx, wanted, cluster.Owner, client.DryRunAll); apierrors.IsConflict(err) {
		if manager := conflicting(err); manager != "" {
			m.leave(ro.GetUID(), doc.Switch, cluster.AppliedBy(manager))
			return nil
		}
	}
	if err := m.cluster.Repoint(ctx, ro.Workload, ro.Repointing, client.DryRunAll); err != nil {
		return err
	}
	m.tried[ro.GetUID()] = id
	return nil
}

// conflicting is the manager that a conflict names, if it is known to apply its
// fields again; empty otherwise.
func conflicting(err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return ""
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		// conflict with "kustomize-controller" using apps/v1
		if _, rest, ok := strings.Cut(cause.Message, `"`); ok {
			if manager, _, _ := strings.Cut(rest, `"`); excerpt.IsReapplier(manager) {
				return manager
			}
		}
	}
	return ""
}
