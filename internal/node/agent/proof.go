package agent

import (
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

// proofs remember which names containerd was seen asking the agent for. One is
// good for one run of containerd and one content of the host's directory, and
// for a while.
type proofs struct {
	cri      puller
	interval time.Duration
	now      func() time.Time
	good     map[layout.Name]good
}

type good struct {
	key string
	at  time.Time
}

// puller is the CRI of the kubelet's containerd.
type puller interface {
	PullImage(ctx context.Context, ref string) (string, error)
	RemoveImage(ctx context.Context, ref string) error
}

// expecter is the serving half, which sees pulls arrive.
type expecter interface {
	Expect(ctx context.Context, nonce string, name layout.Name) error
	Seen(ctx context.Context, nonce string, wait time.Duration) (handoff.Arrival, error)
}

// asked is the containerd that a proof is about.
type asked struct {
	instance string                  // this run of it
	made     func(peer string) error // nil if a connection to the agent is its own
}

func newProofs(cri puller, interval time.Duration) *proofs {
	return &proofs{cri: cri, interval: interval, now: time.Now, good: map[layout.Name]good{}}
}

// Why a name is not proved, for people: it is what makes a node not converge.
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

// prove pulls a reference that exists only for this, unless the name is proved
// already for this run of containerd and this content of its host directory.
func (p *proofs) prove(ctx context.Context, serve expecter, n layout.Name, by asked, content, nonce string) error {
	key := by.instance + " " + content
	if g, ok := p.good[n]; ok && g.key == key && p.now().Sub(g.at) < p.interval {
		return nil
	}
	delete(p.good, n)
	if err := serve.Expect(ctx, nonce, n); err != nil {
		return err
	}
	if err := p.pull(ctx, serve, n.Reference(handoff.ProofRepository+":"+nonce), nonce, by.made); err != nil {
		return err
	}
	p.good[n] = good{key: key, at: p.now()}
	return nil
}

// pull starts a pull that the serving half lets hang as soon as it arrives. It
// is called off when it is known whose it was. If it ends by itself, containerd
// went elsewhere, which is errNotSeen; if it was somebody else's, errElsewhere.
// Any other error means that nothing is known.
func (p *proofs) pull(ctx context.Context, serve expecter, ref, nonce string, made func(peer string) error) error {
	pull, callOff := context.WithTimeout(ctx, pullTime)
	defer callOff()
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
	callOff()
	pulled := <-ended
	if pulled == nil {
		p.remove(ctx, ref) // somebody's mirror has everything
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

// starting is what containerd 1.x says of itself, by no code, in its first
// moments.
const starting = "not initialized"

// notSeen adds what containerd said, by its code: its words name addresses.
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

// remove leaves nothing behind, but does not wait for a containerd that hangs:
// the kubelet collects images that nobody uses.
func (p *proofs) remove(ctx context.Context, ref string) {
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	_ = p.cri.RemoveImage(ctx, ref)
}

// nonce is a tag that nobody else will ever ask for.
func nonce(uid string, generation int64) string {
	if uid == "" {
		uid = "unknown"
	}
	return uid + "." + strconv.FormatInt(generation, 10) + "." + rand.Text()
}
