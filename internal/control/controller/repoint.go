package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

const owner = client.FieldOwner(v1alpha1.ManagedBy)

// rehearse tries all patches before deckhouse-registry names a new target: a
// refusal then leaves components and workloads where they were.
func (r *Reconciler) rehearse(ctx context.Context, s *sight, doc document) error {
	if doc.Desired.Registry.IsZero() {
		return nil
	}
	if have := s.registrySecret; have != nil && have.Annotations[v1alpha1.AnnotationRegistryChecksum] == checksum(doc) {
		return nil // it names the target already: healing it waits for nobody
	}
	p := r.measure(s, doc)
	if len(p.next()) == 0 {
		return nil
	}
	return r.tryAll(ctx, p, doc)
}

// repoint begins the rollouts that may begin now. Before the first of them
// every patch that is still to come is tried without effect: a policy engine
// or quota that refuses one stops the step with nothing changed.
func (r *Reconciler) repoint(ctx context.Context, s *sight, doc document) error {
	p := r.measure(s, doc)
	if len(p.todo) == 0 || !doc.Desired.Repoint {
		r.refused = ""
		clear(r.tried)
	}
	r.forget(doc.Switch)
	next := p.next()
	if len(next) == 0 {
		return nil
	}
	if err := r.tryAll(ctx, p, doc); err != nil {
		return err
	}
	var lost error
	for _, ro := range next {
		if r.fought(ro.GetUID(), doc.Switch) != "" {
			continue // found out just now; the next pass lists it
		}
		err := r.patch(ctx, ro, doc)
		if errors.Is(err, errLost) {
			lost = err
			continue
		}
		if err != nil {
			return fmt.Errorf("re-point %s: %w", ro, err)
		}
		r.remember(ro, doc)
		r.log.Info("workload re-pointed", "workload", ro.String(), "base", doc.Desired.Workloads.String())
		r.eventf(ro.Object, "RegistryRepointed", "images now start with %s", doc.Desired.Workloads)
	}
	return lost
}

// forget drops what is known of workloads in earlier switches.
func (r *Reconciler) forget(number int64) {
	maps.DeleteFunc(r.conflicts, func(_ types.UID, c conflict) bool { return c.number != number })
	maps.DeleteFunc(r.sent, func(_ types.UID, s sent) bool { return s.number != number })
	maps.DeleteFunc(r.headway, func(_ types.UID, h headway) bool { return h.number != number })
}

// mostRefusals is how many refusals are found before the rest is not tried.
const mostRefusals = 10

// tryAll tries every rollout that is still to come, and names all that are
// refused. One whose object has changed meanwhile is for the next pass, after
// the others were tried.
func (r *Reconciler) tryAll(ctx context.Context, p progress, doc document) error {
	var lost, first error
	var refused []string
	for _, ro := range p.todo {
		err := r.try(ctx, ro, doc)
		switch {
		case err == nil:
			continue
		case errors.Is(err, errLost):
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
	r.refused = strings.Join(refused, "\n")
	if first != nil {
		return first
	}
	return lost
}

// refusal is what the user reads of an error: only the API server's no is a
// refusal, not that it was busy or could not be reached.
func refusal(ro rollout, err error) string {
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
func (r *Reconciler) try(ctx context.Context, ro rollout, doc document) error {
	id := string(ro.GetUID()) + "/" + ro.GetResourceVersion() + "/" + switchNumber(doc.Switch)
	if r.tried[ro.GetUID()] == id || r.fought(ro.GetUID(), doc.Switch) != "" {
		return nil
	}
	wanted := client.ApplyConfigurationFromUnstructured(change(ro, doc))
	if err := r.client.Apply(ctx, wanted, owner, client.DryRunAll); apierrors.IsConflict(err) {
		if manager := conflicting(err); manager != "" {
			r.conflicts[ro.GetUID()] = conflict{manager, doc.Switch}
			r.wake()
			return nil
		}
	}
	if err := r.patch(ctx, ro, doc, client.DryRunAll); err != nil {
		return err
	}
	r.tried[ro.GetUID()] = id
	return nil
}

func (r *Reconciler) patch(ctx context.Context, ro rollout, doc document, opts ...client.PatchOption) error {
	data, err := json.Marshal(change(ro, doc))
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	object, ok := ro.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no object", ro)
	}
	err = r.client.Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, data), append(opts, owner)...)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return errLost
	}
	return err //nolint:wrapcheck // the callers say which workload
}

// conflict is who was found to apply a workload's images, and in which switch:
// the next one asks again.
type conflict struct {
	manager string
	number  int64
}

func (r *Reconciler) fought(uid types.UID, number int64) string {
	if c, ok := r.conflicts[uid]; ok && c.number == number {
		return c.manager
	}
	return ""
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
			if manager, _, _ := strings.Cut(rest, `"`); isReapplier(manager) {
				return manager
			}
		}
	}
	return ""
}

// change is the patch of one workload: images, the annotations that tell a
// later pass what was done, and UID and version of what was seen, so that
// nothing that was changed or made anew meanwhile is overwritten.
func change(ro rollout, doc document) *unstructured.Unstructured {
	template := map[string]any{}
	if !ro.none() {
		spec := map[string]any{}
		if list := containerList(ro.template.Spec.Containers, ro.containers); len(list) > 0 {
			spec["containers"] = list
		}
		if list := containerList(ro.template.Spec.InitContainers, ro.inits); len(list) > 0 {
			spec["initContainers"] = list
		}
		if len(ro.volumes) > 0 {
			spec["volumes"] = volumeList(ro.template.Spec.Volumes, ro.volumes)
		}
		template["spec"] = spec
	}
	if ro.checksum != "" {
		template["metadata"] = map[string]any{"annotations": map[string]any{v1alpha1.AnnotationRegistryChecksum: ro.checksum}}
	}
	spec := map[string]any{"template": template}
	if ro.kind.Kind == "CronJob" {
		spec = map[string]any{"jobTemplate": map[string]any{"spec": spec}}
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(ro.kind)
	u.SetNamespace(ro.GetNamespace())
	u.SetName(ro.GetName())
	u.SetUID(ro.GetUID())
	u.SetResourceVersion(ro.GetResourceVersion())
	u.SetAnnotations(map[string]string{
		v1alpha1.AnnotationRepointed: switchNumber(doc.Switch),
		v1alpha1.AnnotationAvailable: strconv.Itoa(int(ro.available())),
	})
	return u
}

// containerList is in the template's order: the API server puts containers into
// the order of a patch, and init containers run in it.
func containerList(of []corev1.Container, changes map[string]string) []any {
	list := make([]any, 0, len(changes))
	for i := range of {
		if image, ok := changes[of[i].Name]; ok {
			list = append(list, map[string]any{"name": of[i].Name, "image": image})
		}
	}
	return list
}

func volumeList(of []corev1.Volume, changes map[string]string) []any {
	list := make([]any, 0, len(changes))
	for i := range of {
		if image, ok := changes[of[i].Name]; ok {
			list = append(list, map[string]any{"name": of[i].Name, "image": map[string]any{"reference": image}})
		}
	}
	return list
}
