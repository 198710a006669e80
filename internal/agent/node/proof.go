package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/agent/seam"
	"github.com/d8-registry/registry/internal/layout"
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
	Seen(ctx context.Context, nonce string, wait time.Duration) (bool, error)
}

func newProofs(cri puller, interval time.Duration) *proofs {
	return &proofs{cri: cri, interval: interval, now: time.Now, good: map[layout.Name]good{}}
}

// Why a name is not proved, for people: it is what makes a node not converge.
var (
	errNotSeen  = errors.New("containerd does not come to the agent for this name")
	errNotSetUp = errors.New("the host directory is not set up")
)

// pullTime is longer than containerd takes for a host that does not answer.
const pullTime = 15 * time.Second

// prove pulls a reference that exists only for this, unless the name is proved
// already.
func (p *proofs) prove(ctx context.Context, serve expecter, n layout.Name, key, nonce string) error {
	if g, ok := p.good[n]; ok && g.key == key && p.now().Sub(g.at) < p.interval {
		return nil
	}
	delete(p.good, n)
	if err := serve.Expect(ctx, nonce, n); err != nil {
		return err
	}
	seen, err := p.pull(ctx, serve, n.Reference(seam.ProofRepository+":"+nonce), nonce)
	if err != nil {
		return err
	}
	if !seen {
		return errNotSeen
	}
	p.good[n] = good{key: key, at: p.now()}
	return nil
}

// pull starts a pull that the serving half lets hang as soon as it arrives, and
// calls it off then. If it ends by itself, containerd went elsewhere.
func (p *proofs) pull(ctx context.Context, serve expecter, ref, nonce string) (bool, error) {
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
	seen, err := serve.Seen(waiting, nonce, pullTime)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		seen, err = serve.Seen(ctx, nonce, 0)
	}
	callOff()
	if <-ended == nil {
		// Somebody's mirror has everything. Leave nothing behind.
		err = errors.Join(err, p.cri.RemoveImage(ctx, ref))
	}
	if err != nil {
		return false, fmt.Errorf("prove %s: %w", ref, err)
	}
	return seen, nil
}

// nonce is a tag that nobody else will ever ask for.
func nonce(uid string, generation int64) string {
	if uid == "" {
		uid = "unknown"
	}
	return uid + "." + strconv.FormatInt(generation, 10) + "." + rand.Text()
}
