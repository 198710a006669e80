package serve

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// proofs are the pulls that node announced: seen or not yet. A nonce counts
// once, for one name, and only with the node token, which outer handlers check.
type proofs struct {
	now  func() time.Time
	hold time.Duration // how long a proof's pull is kept waiting at most

	mu      sync.Mutex
	pending map[string]*proof
}

type proof struct {
	name  layout.Name
	since time.Time
	used  bool
	peer  string // who came, once used
	seen  chan struct{}
}

const (
	proofLife  = 5 * time.Minute
	maxPending = 1000
	proofHold  = 10 * time.Second
)

var nonceForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{15,127}$`)

func newProofs() *proofs {
	return &proofs{now: time.Now, hold: proofHold, pending: map[string]*proof{}}
}

// expect announces a nonce; false if it is malformed, known, or one too many.
func (p *proofs) expect(nonce string, name layout.Name) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, old := range p.pending {
		if p.now().Sub(old.since) > proofLife {
			delete(p.pending, n)
		}
	}
	if p.pending[nonce] != nil || len(p.pending) >= maxPending || !nonceForm.MatchString(nonce) {
		return false
	}
	p.pending[nonce] = &proof{name: name, since: p.now(), seen: make(chan struct{})}
	return true
}

// arrived notes a request for the nonce below a name, and who made the first.
func (p *proofs) arrived(nonce, host, repository, peer string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.pending[nonce]
	if known == nil || known.name.Host != host || !strings.HasPrefix(repository, prefix(known.name)) {
		return false
	}
	if !known.used {
		known.used, known.peer = true, peer
		close(known.seen)
	}
	return true
}

func prefix(n layout.Name) string {
	if n.Path == "" {
		return ""
	}
	return n.Path + "/"
}

// seen waits for a nonce to arrive, and forgets it with the answer. A caller
// that goes away may ask again.
func (p *proofs) seen(ctx context.Context, nonce string, wait time.Duration) handoff.Arrival {
	p.mu.Lock()
	known := p.pending[nonce]
	p.mu.Unlock()
	if known == nil {
		return handoff.Arrival{}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-known.seen:
	case <-timer.C:
	case <-ctx.Done():
		return handoff.Arrival{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, nonce)
	return handoff.Arrival{Seen: known.used, Peer: known.peer}
}

// isProof tells pulls of proofs from all others.
func isProof(pull proxy.Pull) bool {
	return pull.Repository == handoff.ProofRepository || strings.HasSuffix(pull.Repository, "/"+handoff.ProofRepository)
}

// serve notes that a proof came, and keeps the caller waiting: node calls the
// pull off as soon as it knows. So nothing comes of it, where a 404 would send
// containerd on to the second way or to the real registry, with a pull that
// nobody needs, and an image, however empty, would stay on the node.
func (p *proofs) serve(w http.ResponseWriter, r *http.Request, pull proxy.Pull) {
	if pull.Kind == proxy.KindManifests && p.arrived(pull.Reference, pull.Host, pull.Repository, r.RemoteAddr) {
		timer := time.NewTimer(p.hold)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
		case <-timer.C:
		}
	}
	proxy.WriteError(w, r, http.StatusNotFound, proxy.CodeManifestUnknown, "this is only a proof")
}
