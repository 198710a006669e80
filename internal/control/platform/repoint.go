package platform

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
)

// DryRun tries all patches before deckhouse-registry names a new target: a
// refusal then leaves components and workloads where they were.
func (m *Mover) DryRun(ctx context.Context, v *state.View) error {
	if v.Doc.Desired.Registry.IsZero() {
		return nil
	}
	if have := v.Registry; have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] == v.Doc.RegistryChecksum() {
		return nil // it names the target already: healing it waits for nobody
	}
	p := m.Measure(v)
	if len(p.next()) == 0 {
		return nil
	}
	return m.tryAll(ctx, p, v.Doc)
}

// Repoint begins the rollouts that may begin now. Before the first of them
// every patch that is still to come is tried without effect: a policy engine
// or quota that refuses one stops the step with nothing changed.
func (m *Mover) Repoint(ctx context.Context, v *state.View) error {
	p := m.Measure(v)
	if len(p.todo) == 0 || !v.Doc.Desired.Repoint {
		m.refused = ""
		clear(m.tried)
	}
	m.forget(v.Doc.Switch)
	next := p.next()
	if len(next) == 0 {
		return nil
	}
	if err := m.tryAll(ctx, p, v.Doc); err != nil {
		return err
	}
	var lost error
	for _, ro := range next {
		if m.conflictingManager(ro.GetUID(), v.Doc.Switch) != "" {
			continue // found out just now; the next pass lists it
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

// mostRefusals is how many refusals are found before the rest is not tried.
const mostRefusals = 10

// tryAll tries every rollout that is still to come, and names all that are
// refused. One whose object has changed meanwhile is for the next pass, after
// the others were tried.
func (m *Mover) tryAll(ctx context.Context, p Progress, doc state.Document) error {
	var lost, first error
	var refused []string
	for _, ro := range p.todo {
		err := m.try(ctx, ro, doc)
		switch {
		case err == nil:
			continue
		case errors.Is(err, cluster.ErrLost):
			lost = err
			continue
		}
		err = fmt.Errorf("try to re-point %s: %w", ro, err)
		no := refusal(ro, err)
		if no == "" { // not an answer about this one
			first = err
			break
		}
		if refused = append(refused, no); first == nil {
			first = err
		}
		if len(refused) == mostRefusals {
			break
		}
	}
	m.refused = strings.Join(refused, "\n")
	if first != nil {
		return first
	}
	return lost
}

// refusal is what the user reads of an error: only the API server's no is a
// refusal, not that it was busy or could not be reached.
func refusal(ro Rollout, err error) string {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return ""
	}
	switch code := status.Status().Code; {
	case code < http.StatusBadRequest, code >= http.StatusInternalServerError,
		code == http.StatusUnauthorized, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests:
		return ""
	}
	return ro.String() + ": " + status.Status().Message
}

// try makes the patch without effect. Before that it asks the API server, by a
// server-side apply that forces nothing, who owns the images; nobody but known
// re-appliers is heeded.
//
// The patch itself is no server-side apply: that would take a container's image
// away as soon as a later patch does not repeat it.
func (m *Mover) try(ctx context.Context, ro Rollout, doc state.Document) error {
	id := string(ro.GetUID()) + "/" + ro.GetResourceVersion() + "/" + strconv.FormatInt(doc.Switch, 10)
	if m.tried[ro.GetUID()] == id || m.conflictingManager(ro.GetUID(), doc.Switch) != "" {
		return nil
	}
	wanted := client.ApplyConfigurationFromUnstructured(ro.Repointed(ro.Repointing))
	if err := m.cluster.Apply(ctx, wanted, cluster.Owner, client.DryRunAll); apierrors.IsConflict(err) {
		if manager := conflicting(err); manager != "" {
			m.conflicts[ro.GetUID()] = conflict{manager, doc.Switch}
			m.cluster.Wake()
			return nil
		}
	}
	if err := m.cluster.Repoint(ctx, ro.Workload, ro.Repointing, client.DryRunAll); err != nil {
		return err
	}
	m.tried[ro.GetUID()] = id
	return nil
}

// conflicting is the known re-applier that a conflict names.
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
			if manager, _, _ := strings.Cut(rest, `"`); cluster.IsReapplier(manager) {
				return manager
			}
		}
	}
	return ""
}
