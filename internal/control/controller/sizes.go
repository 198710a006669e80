package controller

import (
	"context"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// refuseWhatCannotFit looks, before it is followed, whether what the user asks for now
// fits into the Secrets that would hold it. What does not is no wish: the last target
// holds, and Ready says why. Once it was followed, nothing could be stored any more.
func (r *Reconciler) refuseWhatCannotFit(doc state.Document, v *state.View) error {
	o := &v.Observed
	grown, more := r.protocol.Grown(doc.State, *o)
	if !more {
		return nil
	}
	doc.State = grown
	reads := r.protocol.Reads(doc.State, *o)
	problem, err := state.TooLarge(doc, reads)
	if err != nil || problem == "" {
		return err
	}
	where := "ModuleConfig " + v1alpha1.ModuleConfigName
	if grown.Target.Upstream == o.Installation {
		where, o.Installation = "Secret "+v1alpha1.SecretRegistry, upstream.Upstream{}
	}
	problem = where + ": these settings are not followed. With them " + problem +
		". Give a CA with fewer certificates; after the present switch there is more room too."
	if reads < layout.Newest {
		problem += " Some agents or proxies are of an older version and need each CA many times: finish the upgrade of the module first."
	}
	o.Spec = switchover.Spec{Problem: problem}
	return nil
}

// stopped says in Module registry that nothing can be stored, and so nothing be done.
func (r *reports) stopped(ctx context.Context, v *state.View, why error) error {
	r.problem, r.cut = "Nothing is changed: "+why.Error()+".", ""
	v.Observed.Spec.Problem = why.Error() // they are not followed
	return r.applyModule(ctx, v, "")
}
