package component

import (
	"context"
	"fmt"
	"time"

	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// ownImage is what this process knows about the module's own image.
type ownImage struct {
	// there is the fingerprint of the request that found the image.
	there string
	// missing says why the image was not found in this pass or the last one; empty
	// when it was, or when nothing asked for it.
	missing string
}

// AskAgain makes this pass ask again for an image that was not found. It is called
// at the start of a pass.
func (k *Keeper) AskAgain() { k.image.missing = "" }

// answersWithin is the timeout of one request for our own image. A pass waits for
// the answer. So does a switch away from a registry that does not answer.
const answersWithin = 10 * time.Second

// imageThere reports whether the wanted registry has our own image. This process
// may run from another registry.
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
	k.cluster.Log.Info("the module's own image is not in the registry; the module is not upgraded", "registry", v.Doc.Desired.Own.Host, "image", k.cfg.Image, "reason", k.image.missing)
	return false
}
