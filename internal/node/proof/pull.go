package proof

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// Puller is the CRI of the kubelet's containerd.
type Puller interface {
	PullImage(ctx context.Context, ref string) (string, error)
	RemoveImage(ctx context.Context, ref string) error
}

// Server is the serving half, where pulls arrive.
type Server interface {
	Expect(ctx context.Context, nonce string, name layout.Name) error
	Seen(ctx context.Context, nonce string, wait time.Duration) (handoff.Arrival, error)
}

// Why a name is not proved. People read this in the status of a node.
var (
	errNotSeen  = errors.New("containerd does not come to the agent for this name")
	errNotSetUp = errors.New("the host directory is not set up")
	errNowhere  = errors.New("containerd looks into no host directory yet")
)

const (
	// pullTime is longer than containerd takes for a host that does not answer.
	pullTime   = 15 * time.Second
	removeTime = 5 * time.Second
)

// pull orders a pull. When it arrives, the serving half keeps it waiting until it
// is known who made it; then the pull is cancelled. The error is errNotSeen if
// containerd went somewhere else, and errElsewhere if another process made the
// pull. Any other error means that nothing is known.
func (p *Prover) pull(ctx context.Context, serve Server, ref, nonce string, made func(peer string) error) error {
	pull, cancelPull := context.WithTimeout(ctx, pullTime)
	defer cancelPull()
	waiting, stopWaiting := context.WithCancel(ctx)
	defer stopWaiting()
	ended := make(chan error, 1)
	go func() {
		_, err := p.cri.PullImage(pull, ref)
		ended <- err
		stopWaiting()
	}()
	arrival, err := serve.Seen(waiting, nonce, pullTime)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		arrival, err = serve.Seen(ctx, nonce, 0)
	}
	var whose error
	if arrival.Seen {
		whose = made(arrival.Peer)
	}
	cancelPull()
	pulled := <-ended
	if pulled == nil {
		p.remove(ctx, ref) // a mirror that answers every name
	}
	switch {
	case arrival.Seen:
		return whose
	case pulled == nil:
		return errNotSeen
	case err != nil:
		return fmt.Errorf("wait for the proof: %w", err)
	}
	return notSeen(pulled)
}

// starting is what containerd 1.x says in its first moments. It has no code for
// that.
const starting = "not initialized"

// notSeen says how the pull ended, by its code: the text has addresses in it.
func notSeen(pulled error) error {
	switch code := status.Code(pulled); code {
	case codes.NotFound:
		return errNotSeen
	case codes.Canceled, codes.DeadlineExceeded: // by us
		return fmt.Errorf("%w and does not end the pull", errNotSeen)
	case codes.Unavailable:
		return errors.New("containerd does not answer")
	case codes.Unimplemented:
		return fmt.Errorf("%w: its CRI plugin is not there, which happens when config_path and registry.mirrors are both set", errNotSeen)
	case codes.Unknown:
		if strings.Contains(status.Convert(pulled).Message(), starting) {
			return errors.New("containerd is not ready yet")
		}
		return errNotSeen
	default:
		return fmt.Errorf("%w, its answer is %s", errNotSeen, code)
	}
}

// remove removes what was pulled. It does not wait for a containerd that hangs:
// the kubelet removes unused images too.
func (p *Prover) remove(ctx context.Context, ref string) {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	_ = p.cri.RemoveImage(ctx, ref)
}

// newNonce is a tag that nobody else ever asks for.
func newNonce(uid string, generation int64) string {
	return cmp.Or(uid, "unknown") + "." + strconv.FormatInt(generation, 10) + "." + rand.Text()
}
