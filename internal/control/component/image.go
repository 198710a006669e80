package component

import (
	"context"
	"fmt"
	"time"

	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// ownImage is what this process found out about the module's own image.
type ownImage struct {
	// there is the request for our own image that was answered.
	there string
	// missing says why the image cannot be had, as this pass or the last one
	// found out; empty when it can, or need not.
	missing string
}

// AskAgain makes a pass ask anew for an image that was not there.
func (k *Keeper) AskAgain() { k.image.missing = "" }

// answersWithin is for one question about our own image. A pass waits for the
// answer, and so does a switch away from a registry that is silent.
const answersWithin = 10 * time.Second

// imageThere reports whether the registry has our own image. A controller may
// have been started from another registry than that of the present mode.
func (k *Keeper) imageThere(ctx context.Context, v *state.View) bool {
	wanted := switchover.CheckRequest{Upstream: v.Doc.Desired.Own, Images: []string{k.cfg.Image}}
	switch {
	case k.image.there == wanted.Fingerprint():
		return true
	case k.image.missing != "":
		return false // this pass has asked
	}
	asked, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	report := k.check(asked, v, wanted)
	switch {
	case asked.Err() != nil && ctx.Err() == nil:
		k.image.missing = fmt.Sprintf("no answer within %s", answersWithin)
	case report.Problem != "":
		k.image.missing = report.Problem
	case len(report.Failures) > 0:
		k.image.missing = report.Failures[0].Image + ": " + report.Failures[0].Error
	case report.At.IsZero():
		k.image.missing = "not answered"
	default:
		k.image.there, k.image.missing = wanted.Fingerprint(), ""
		return true
	}
	v.Again = true
	k.cluster.Log.Info("the module's own image is not in the registry; nothing is upgraded", "registry", v.Doc.Desired.Own.Host, "image", k.cfg.Image, "reason", k.image.missing)
	return false
}
