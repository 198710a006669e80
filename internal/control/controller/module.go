package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/settings"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
)

const disabledMessage = "Module is disabled by ModuleConfig registry."

// applyModule shows in Module registry whether the module is enabled and whether
// the switch is Ready. Upgrade is what users should know of an upgrade of the
// module; empty when there is none.
func (r *reports) applyModule(ctx context.Context, v *state.View, upgrade string) error {
	var module deckhousev1alpha1.Module
	err := r.cluster.Get(ctx, client.ObjectKey{Name: v1alpha1.ModuleName}, &module)
	if apierrors.IsNotFound(err) {
		module = deckhousev1alpha1.Module{
			ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleName, Labels: cluster.Ours()},
			Properties: deckhousev1alpha1.ModuleProperties{Weight: v1alpha1.ModuleWeight, Source: "Embedded", Namespace: v1alpha1.Namespace},
		}
		err = r.cluster.Create(ctx, &module)
		if apierrors.IsAlreadyExists(err) {
			return cluster.ErrLost // the cache is behind
		}
	}
	if err != nil {
		return fmt.Errorf("make Module registry: %w", err)
	}
	want := module.DeepCopy()
	r.describe(&want.Status, v, upgrade)
	if equality.Semantic.DeepEqual(module.Status, want.Status) {
		return nil
	}
	err = r.cluster.Status().Patch(ctx, want, client.MergeFrom(&module), cluster.Owner)
	if err != nil {
		return fmt.Errorf("write status of Module registry: %w", err)
	}
	return nil
}

func (r *reports) describe(status *deckhousev1alpha1.ModuleStatus, v *state.View, upgrade string) {
	enabled, disabled, ready, message := metav1.ConditionTrue, "", metav1.ConditionFalse, ""
	if c := meta.FindStatusCondition(v.Doc.Conditions, v1alpha1.ConditionReady); c != nil {
		ready, message = c.Status, c.Message
	}
	status.Phase = deckhousev1alpha1.PhaseReconciling
	switch {
	case v.Observed.Spec.Problem == settings.Disabled:
		enabled, disabled = metav1.ConditionFalse, disabledMessage
		ready, message = metav1.ConditionFalse, disabledMessage
		status.Phase = deckhousev1alpha1.PhaseAvailable
	case ready == metav1.ConditionTrue:
		status.Phase = deckhousev1alpha1.PhaseReady
	}
	for _, more := range []string{upgrade, r.cut, r.problem, dangers(v.Doc.Target), notes(v.Notes)} {
		message = strings.TrimSpace(message + "\n" + more)
	}
	now := metav1.NewTime(r.cluster.Now().Truncate(1e9))
	setModuleCondition(status, deckhousev1alpha1.ConditionEnabledByModuleManager, enabled, disabled, now)
	isReady := setModuleCondition(status, deckhousev1alpha1.ConditionIsReady, ready, message, now)
	spec := v.Observed.Spec
	followed := spec.Problem == "" || spec.Problem == settings.Disabled
	if anew := spec.Generation < isReady.SettingsGeneration; followed || anew { // a ModuleConfig made anew counts from 1
		isReady.SettingsGeneration = spec.Generation
	}
}

// dangers are what is allowed and often not meant, for as long as it is so.
// Admission has warned of the same, once.
func dangers(t switchover.Target) string {
	var all []string
	if t.Upstream.Scheme == upstream.HTTP && (t.Upstream.Provided || !t.Upstream.Credentials.IsZero()) {
		all = append(all, "Warning: the password for "+t.Upstream.String()+" travels in clear text (scheme 'HTTP').")
	}
	if t.HasFixedAddress() && t.Upstream.Path == "" && !t.Upstream.IsZero() {
		all = append(all, "Warning: imagesRepo has no path: every Pod may pull everything that the account may pull from "+t.Upstream.Host+", without a pull secret.")
	}
	return strings.Join(all, "\n")
}

// notes are about certificates and users. Nothing waits for them.
func notes(all []string) string {
	var lines []string
	for _, note := range all {
		lines = append(lines, foreign.Line(note, 4*foreign.Sentence)+".")
	}
	return strings.Join(lines, "\n")
}

func setModuleCondition(status *deckhousev1alpha1.ModuleStatus, kind string, value metav1.ConditionStatus, message string, now metav1.Time) *deckhousev1alpha1.ModuleCondition {
	i := slices.IndexFunc(status.Conditions, func(c deckhousev1alpha1.ModuleCondition) bool { return c.Type == kind })
	if i < 0 {
		status.Conditions = append(status.Conditions, deckhousev1alpha1.ModuleCondition{Type: kind})
		i = len(status.Conditions) - 1
	}
	c := &status.Conditions[i]
	if c.Status != value {
		c.Status, c.LastTransitionTime = value, now
	}
	c.Message = message
	return c
}

// moduleReference is the object of Events about the switch.
func moduleReference() client.Object {
	return &deckhousev1alpha1.Module{
		TypeMeta:   metav1.TypeMeta{APIVersion: deckhousev1alpha1.GroupVersion().String(), Kind: "Module"},
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleName},
	}
}
