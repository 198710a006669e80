package routes

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/layout"
)

// Prove is nil if the target of a layout serves images here: it alone, with its own
// credentials, CA and scheme, whoever else serves the layout's names. A layout of an
// older controller says no image to fetch; then the target only has to answer.
//
// So it is with the target that the cluster has settled on: nothing is forgotten any
// more that could serve in its place. The image was of the module that began the
// switch. After an upgrade it may be gone, and a node that joins or reboots would
// never report.
func Prove(ctx context.Context, l layout.Layout) error {
	reached, err := transport.New(l.Target)
	if err != nil {
		return fmt.Errorf("reach %s: %w", l.Target, err)
	}
	defer reached.CloseIdleConnections()
	if l.Probe == "" {
		return reached.Ping(ctx)
	}
	asked := judge.Registry{Upstream: l.Target, Transport: reached}
	err = asked.Image(ctx, l.Probe, []string{runtime.GOARCH})
	if l.Active == l.Target {
		switch o := judge.Of(err); {
		case o == judge.NotFound, o == judge.RateLimited:
			return nil
		case o.Refusal() && asked.Ping(ctx) == nil: // some refuse what they do not have
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("it does not serve %s: %w", layout.NameOf(l.Target).Reference(l.Probe), err)
	}
	return nil
}

// ProveAgain is Prove for a target that was proved before. As long as that answers and
// accepts us, nothing is fetched: every node asks every few minutes, and registries
// with a limit count manifests.
func ProveAgain(ctx context.Context, l layout.Layout) error {
	reached, err := transport.New(l.Target)
	if err != nil {
		return fmt.Errorf("reach %s: %w", l.Target, err)
	}
	defer reached.CloseIdleConnections()
	if l.Probe != "" && (judge.Registry{Upstream: l.Target, Transport: reached}).Ping(ctx) == nil {
		return nil
	}
	return Prove(ctx, l)
}

// Stands reports whether a target counts as proved in spite of an error of Prove. The
// one that the cluster has settled on does if it answered anything at all: a node that
// reboots while its registry shows a page of maintenance must not stay closed for the
// images that it has. That pulls fail is said elsewhere, see Table.Failing.
func Stands(l layout.Layout, err error) bool {
	var said *judge.Error
	return err == nil || l.Active == l.Target && errors.As(err, &said) && said.Outcome.Reached()
}

// ProofOf names what Prove proves: nothing is proved for another target, other
// credentials or another image.
func ProofOf(l layout.Layout) string { return l.Target.Lasting().ID() + " " + l.Probe }
