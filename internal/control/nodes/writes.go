package nodes

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
)

const (
	// atOnce is how many writes are under way at the same time: a cluster may have
	// thousands of nodes, and the API server other clients.
	atOnce = 24
	// mostUnanswered is how many writes may fail without a refusal before the others
	// are left to the next pass: each may take as long as a timeout.
	mostUnanswered = 10
	// lookAgain is when a Node is looked at again that others write all the time.
	lookAgain = time.Second
)

// write is one write about one node. What says what it does.
type write struct {
	node, what string
	do         func(context.Context) error
}

// doAll makes the writes, many at the same time. One that is not done concerns its
// node alone: it is noted in the view, the others go on, and so does what comes after.
// That is safe, because barriers go by what was observed of a node, never by what was
// written:
//   - without its RegistryNode a node cannot report, and without its order or approval
//     it reports what it did before: the barrier waits for it;
//   - a node that joins counts from the start if it does not carry our taint, and one
//     that was left out counts again as soon as it is Ready;
//   - a node that keeps the taint only stays closed.
//
// An error is about all of them: the API server does not answer.
func doAll(ctx context.Context, v *state.View, writes []write) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	var mu sync.Mutex
	unanswered := 0
	for _, w := range writes {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := w.do(ctx)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil, apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
				return nil // the cache is behind: an event brings the next pass
			case apierrors.IsConflict(err):
				v.WakeIn(lookAgain)
				return nil
			}
			// What is written to nodes holds no secret: users may read the whole answer.
			refused := state.Public{Err: fmt.Errorf("%s %s: %w", w.what, w.node, err)}
			if cluster.Refusal(err) == nil {
				if unanswered++; unanswered > mostUnanswered || ctx.Err() != nil {
					return refused
				}
			}
			v.Refuse(w.node, refused)
			return nil
		})
	}
	return group.Wait() //nolint:wrapcheck // it names a node
}
