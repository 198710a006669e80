package uninstall

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// clusterState is how far the controller says that the cluster is.
type clusterState struct {
	doc    *state.Document // nil when there is none
	layout *corev1.Secret  // what nodes route by; nil when it is not published
}

func (u *uninstaller) readState(ctx context.Context) (clusterState, error) {
	var s clusterState
	secret, err := cluster.Get[corev1.Secret](ctx, u.client, cluster.Here(v1alpha1.SecretState))
	if err != nil {
		return s, err
	}
	if s.layout, err = cluster.Get[corev1.Secret](ctx, u.client, cluster.Here(v1alpha1.SecretLayout)); err != nil || secret == nil {
		return s, err
	}
	doc, err := state.Decode(secret.Data[state.KeyState])
	if err != nil || doc.Newer() {
		return s, refused("Secret d8-system/registry-state cannot be read by this version of the module. " +
			"Wait until the controller has written it anew (kubectl -n d8-system logs deployment/registry-controller says why it does not), then try again. Nothing was removed")
	}
	s.doc = &doc
	return s, nil
}

// reverted reports whether nodes are as they were before the module, or were
// never touched by it.
func (s clusterState) reverted() bool {
	if s.layout != nil {
		return false
	}
	return s.doc == nil || s.doc.Desired.Legacy && s.doc.Reached() || s.doc.Desired.Layout.IsZero() && !s.doc.Desired.Legacy
}

// refusal says why the module cannot be uninstalled now; nil when it can be.
func (s clusterState) refusal() error {
	const tail = "; wait until `kubectl get module registry` shows READY True and try again. Nothing was removed"
	switch {
	case s.doc == nil && s.layout != nil:
		return refused("nodes go by Secret d8-system/registry-bashible-config, but Secret registry-state, which says how to get them back, is missing. "+
			"The controller makes it anew: look at kubectl -n d8-system logs deployment/registry-controller%s", tail)
	case s.doc == nil || s.doc.Target.IsZero() && s.layout == nil:
		return nil // no switch has ever begun
	}
	active, target := s.doc.Active.Mode, s.doc.Target.Mode
	switch {
	case target != switchover.Unmanaged:
		return refused("the cluster pulls its images through the module: mode %s. Set spec.settings.registry to `mode: Unmanaged` in ModuleConfig deckhouse, without another section%s", target, tail)
	case active != switchover.Unmanaged:
		return refused("the cluster is on its way from mode %s to %s and not there yet: %s%s", active, target, s.waiting(), tail)
	case !s.doc.Reached() && !s.doc.Desired.Legacy:
		return refused("mode %s is not Ready yet: %s%s", target, s.waiting(), tail)
	}
	return nil
}

// waiting says what the controller waits for: the message of the first step that
// is not done.
func (s clusterState) waiting() string {
	if s.doc != nil {
		if c := s.doc.WaitsAt(); c.Type != "" {
			return c.Type + ": " + strings.TrimSpace(c.Message)
		}
	}
	return "the controller has not said what it waits for"
}

// republished says why the controller has published the layout again: step Final
// names what of the platform needs it.
func (s clusterState) republished() error {
	if s.doc == nil {
		return s.refusal()
	}
	why := "ask kubectl get module registry -o yaml"
	if c := meta.FindStatusCondition(s.doc.Conditions, v1alpha1.ConditionFinal); c != nil && c.Message != "" {
		why = strings.TrimSpace(c.Message)
	}
	return refused("the controller has published the layout again, because images are still named by addresses that nobody else serves. %s\n"+
		"Give them other images or remove them, and try again. Nothing was removed", why)
}

// mayBegin refuses before anything is changed.
func (u *uninstaller) mayBegin(ctx context.Context) error {
	s, err := u.readState(ctx)
	if err != nil {
		return err
	}
	return s.refusal()
}
