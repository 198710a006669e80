package controller

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/credprovider"
	"github.com/d8-registry/registry/internal/control/pullsecret"
	"github.com/d8-registry/registry/internal/control/settings"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/upstream"
)

// specs are what is asked for: by the operator in settings of the protocol, and by users
// in objects, with the credentials that a provider gives for that.
type specs struct {
	settings switchover.Settings
	given    *credprovider.Keeper
}

// observe reads what is asked for.
func (s *specs) observe(ctx context.Context, live client.Reader, v *state.View) error {
	o := &v.Observed
	var err error
	if o.Spec, err = settings.Read(ctx, live); err != nil {
		return err //nolint:wrapcheck // it says what it read
	}
	o.Settings = s.settings
	o.Installation, o.InstallationProblem = pullsecret.Installation(v.Registry)
	s.provide(v)
	return nil
}

// provide adds the credentials of the moment. Settings that name none have a provider's,
// if one is configured for their registry; they are followed once it has given some: a
// switch never begins with credentials that are not there.
func (s *specs) provide(v *state.View) {
	o := &v.Observed
	wanted := v.Doc.Provided()
	for _, u := range o.Published.Layout.Upstreams() { // of a lost state this is left
		if u.Provided && !slices.Contains(wanted, u) {
			wanted = append(wanted, u)
		}
	}
	for _, u := range []*upstream.Upstream{&o.Spec.Upstream, &o.Installation} {
		if !u.IsZero() && u.Credentials.IsZero() && s.given.Provides(*u) {
			u.Provided = true
		}
		if u.Provided && !slices.Contains(wanted, *u) {
			wanted = append(wanted, *u)
		}
	}
	known := v.Doc.Grants
	if len(known) < len(wanted) {
		known = append(slices.Clone(known), state.GrantsIn(v.Layout)...)
	}
	s.given.Want(wanted, known)
	v.Grants = s.given.Grants()
	if u := o.Spec.Upstream; s.lacks(u) {
		section := strings.ToLower(string(o.Spec.Mode))
		o.Spec = switchover.Spec{Problem: "ModuleConfig " + v1alpha1.ModuleConfigName + ": registry." + section + ": " + s.why(u), Generation: o.Spec.Generation}
	}
	if u := o.Installation; s.lacks(u) {
		o.Installation, o.InstallationProblem = upstream.Upstream{}, "Secret d8-system/deckhouse-registry: "+s.why(u)
	}
	for _, u := range v.Doc.Provided() {
		if problem := s.given.Problem(u); problem != "" {
			v.Notes = append(v.Notes, "The credentials of "+u.String()+" are not renewed: "+problem)
		}
	}
}

func (s *specs) lacks(u upstream.Upstream) bool {
	return u.Provided && s.given.With(u).Credentials.IsZero()
}

func (s *specs) why(u upstream.Upstream) string {
	return "there are no credentials of " + u.String() + " yet: " + cmp.Or(s.given.Problem(u), "the credential provider is asked") + "."
}
