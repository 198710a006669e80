package proof

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/report"
)

// Prover remembers for which names containerd was seen coming to the agent.
type Prover struct {
	cri      Puller
	agent    string // the address that containerd comes to
	proc     processes
	interval time.Duration
	now      func() time.Time
	proved   map[layout.Name]proved
}

// proved is when a name was proved, and for what.
type proved struct {
	key string
	at  time.Time
}

// Question is what is to be proved.
type Question struct {
	Layout layout.Layout
	Serve  Server
	Facts  *containerd.Facts
	// SetUp says that the host directories are as the layout wants them.
	SetUp bool
}

// New makes a Prover of an agent's address. What was proved is proved again after
// the interval.
func New(cri Puller, agent string, interval time.Duration) *Prover {
	return &Prover{cri: cri, agent: agent, proc: "/proc", interval: interval, now: time.Now, proved: map[layout.Name]proved{}}
}

// All proves every name of the layout and reports each. lost is set when
// containerd was seen going somewhere else.
//
// If the host directories are not as wanted, or containerd looks into none of
// them, only the names are asked for that the node said it had proved: all others
// would end up at somebody's real registry.
func (p *Prover) All(ctx context.Context, r *report.Report, q Question) (all, lost bool) {
	all = true
	for _, n := range q.Layout.Names() {
		relied := slices.Contains(r.Proved().Names, n.String())
		err := q.pointless()
		if err == nil || relied {
			err = p.one(ctx, q, n, r.Status.NodeUID)
		}
		if err != nil {
			all = false
			lost = lost || errors.Is(err, errNotSeen)
			p.doubt(ctx, r, relied, err)
		}
		r.Status.Redirects = append(r.Status.Redirects, redirect(r, q, n, err))
	}
	if !r.Hold {
		r.Over("proof")
	}
	return all, lost
}

// redirect is what is reported about one name.
func redirect(r *report.Report, q Question, n layout.Name, err error) registryv1alpha1.RedirectStatus {
	out := registryv1alpha1.RedirectStatus{Name: n.String(), Proved: err == nil}
	if err == nil {
		return out
	}
	out.Message = report.Brief(err)
	if f := q.Facts.ChangedSince; f != "" && errors.Is(err, errNotSeen) {
		out.Message += "; it has not read " + f + " since that was changed"
	}
	if !errors.Is(err, errNotSetUp) && !errors.Is(err, errNowhere) {
		r.Problemf("%s: %s", n, out.Message)
	}
	return out
}

// Any returns nil if one name at least is proved. It is for a containerd that
// was just restarted: names that fail for reasons of their own are for the next
// All.
func (p *Prover) Any(ctx context.Context, q Question, nodeUID string) error {
	var first error
	for _, n := range q.Layout.Names() {
		err := p.one(ctx, q, n, nodeUID)
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("%s: %s", n, report.Brief(err))
		}
	}
	return first
}

// pointless is why no name can be proved.
func (q Question) pointless() error {
	switch {
	case !q.SetUp:
		return errNotSetUp
	case q.Facts.NeedsPath != "":
		return errNowhere
	}
	return nil
}

// doubt takes back what the node has proved when a name that it relied on is not
// proved. If nobody answers, it waits a moment before taking the proof back: one of
// them may be starting.
func (p *Prover) doubt(ctx context.Context, r *report.Report, relied bool, err error) {
	if !relied || ctx.Err() != nil {
		return
	}
	if !errors.Is(err, errNotSeen) && !errors.Is(err, errElsewhere) && r.Tolerated("proof") {
		r.Hold = true
		return
	}
	r.Disprove()
}

// one proves one name, unless that was done for this run of containerd and this
// content of its host directory.
func (p *Prover) one(ctx context.Context, q Question, n layout.Name, nodeUID string) error {
	by := asked{instance: q.Facts.Instance, made: func(peer string) error { return p.proc.holds(q.Facts.PID, peer, p.agent) }}
	return p.prove(ctx, q.Serve, n, by, contentKey(q.Facts.HostsDir, n.Host), newNonce(nodeUID, q.Layout.Generation))
}

// asked is the containerd that a proof is about.
type asked struct {
	instance string                  // this run of it
	made     func(peer string) error // nil if it made that connection to the agent
}

func (p *Prover) prove(ctx context.Context, serve Server, n layout.Name, by asked, content, nonce string) error {
	key := by.instance + " " + content
	if g, ok := p.proved[n]; ok && g.key == key && p.now().Sub(g.at) < p.interval {
		return nil
	}
	delete(p.proved, n)
	if err := serve.Expect(ctx, nonce, n); err != nil {
		return err
	}
	if err := p.pull(ctx, serve, n.Reference(handoff.ProofRepository+":"+nonce), nonce, by.made); err != nil {
		return err
	}
	p.proved[n] = proved{key: key, at: p.now()}
	return nil
}

// contentKey is a hash of what containerd finds for a host.
func contentKey(hostsDir, host string) string {
	sum := sha256.New()
	// The second is the spelling that containerd prefers.
	for _, dir := range []string{host, strings.ReplaceAll(host, ":", "_") + "_"} {
		entries, err := os.ReadDir(filepath.Join(hostsDir, dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(hostsDir, dir, e.Name()))
			_, _ = fmt.Fprintf(sum, "%s/%s %d %t\n%s", dir, e.Name(), len(data), err == nil, data) // a hash never fails
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}
