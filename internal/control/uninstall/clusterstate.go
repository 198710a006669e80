package uninstall

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// standing is where the cluster stands, by the controller's own word.
type standing struct {
	state  *switchover.State // nil when there is none
	layout *corev1.Secret    // what nodes route by; nil when it is not published
}

func (u *uninstaller) standing(ctx context.Context) (standing, error) {
	var s standing
	secret, err := u.secret(ctx, v1alpha1.SecretState)
	if err != nil {
		return s, err
	}
	if s.layout, err = u.secret(ctx, v1alpha1.SecretLayout); err != nil || secret == nil {
		return s, err
	}
	s.state = &switchover.State{}
	// The decoder's own words would quote credentials.
	if yaml.Unmarshal(secret.Data["state"], s.state) != nil || s.state.Newer() {
		return s, refused("Secret d8-system/registry-state cannot be read by this version of the module. " +
			"Wait until the controller has written it anew (kubectl -n d8-system logs deployment/registry-controller says why it does not), then try again. Nothing was removed")
	}
	return s, nil
}

// secret is nil when there is none.
func (u *uninstaller) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := u.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return &secret, nil
}

// returned reports whether nodes are as before the module, or were never
// touched by it.
func (s standing) returned() bool {
	if s.layout != nil {
		return false
	}
	return s.state == nil || s.state.Desired.Legacy && s.state.Ready() || s.state.Desired.Layout.IsZero() && !s.state.Desired.Legacy
}

// refusal is why the module cannot be uninstalled now; nil when it can be.
func (s standing) refusal() error {
	const tail = "; wait until `kubectl get module registry` shows READY True and try again. Nothing was removed"
	switch {
	case s.state == nil && s.layout != nil:
		return refused("nodes go by Secret d8-system/registry-bashible-config, but Secret registry-state, which says how to get them back, is missing. "+
			"The controller makes it anew: look at kubectl -n d8-system logs deployment/registry-controller%s", tail)
	case s.state == nil || s.state.Target.IsZero() && s.layout == nil:
		return nil // nothing has ever begun
	}
	active, target := s.state.Active.Mode, s.state.Target.Mode
	switch {
	case target != switchover.Unmanaged:
		return refused("the cluster pulls its images through the module: mode %s. Set spec.settings.registry to `mode: Unmanaged` in ModuleConfig deckhouse, without another section%s", target, tail)
	case active != switchover.Unmanaged:
		return refused("the cluster is on its way from mode %s to %s and not there yet: %s%s", active, target, s.waiting(), tail)
	case !s.state.Ready() && !s.state.Desired.Legacy:
		return refused("mode %s is not Ready yet: %s%s", target, s.waiting(), tail)
	}
	return nil
}

// waiting is what the controller waits for: the message of the first step that
// is not done.
func (s standing) waiting() string {
	if s.state != nil {
		for _, c := range s.state.Conditions {
			if c.Status != metav1.ConditionTrue && c.Type != v1alpha1.ConditionReady {
				return c.Type + ": " + strings.TrimSpace(c.Message)
			}
		}
	}
	return "the controller has not said what it waits for"
}

// kept is what the last step that looks at names says.
func (s standing) kept() string {
	for _, c := range s.state.Conditions {
		if c.Type == v1alpha1.ConditionFinal && c.Message != "" {
			return c.Message
		}
	}
	return "ask kubectl get module registry -o yaml"
}

// mayBegin refuses before anything is touched.
func (u *uninstaller) mayBegin(ctx context.Context) error {
	s, err := u.standing(ctx)
	if err != nil {
		return err
	}
	return s.refusal()
}
