package serve

import (
	"context"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
)

// proofs are the pulls that node announced. A nonce counts once, for one name, and
// only with the node token, which an outer handler checks.
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
	maps.DeleteFunc(p.pending, func(_ string, old *proof) bool { return p.now().Sub(old.since) > proofLife })
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
	if known == nil || !known.name.Holds(host, repository) {
		return false
	}
	if !known.used {
		known.used, known.peer = true, peer
		close(known.seen)
	}
	return true
}

// seen waits for a nonce to arrive, and forgets it when it answers. A caller that
// stopped waiting may ask again.
func (p *proofs) seen(ctx context.Context, nonce string, wait time.Duration) handoff.Arrival {
	p.mu.Lock()
	known := p.pending[nonce]
	p.mu.Unlock()
	if known == nil {
		return handoff.Arrival{}
	}
	select {
	case <-known.seen:
	case <-time.After(wait):
	case <-ctx.Done():
		return handoff.Arrival{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, nonce)
	return handoff.Arrival{Seen: known.used, Peer: known.peer}
}

// isProof reports whether a pull is one of a proof.
func isProof(pull oci.Pull) bool {
	return pull.Repository == handoff.ProofRepository || strings.HasSuffix(pull.Repository, "/"+handoff.ProofRepository)
}

// serve records that a proof arrived, and lets containerd wait until node cancels
// the pull. A 404 would send containerd to the fallback or to the real registry,
// with a pull that nobody needs, and an image would stay on the node.
func (p *proofs) serve(w http.ResponseWriter, r *http.Request, pull oci.Pull) {
	if pull.Kind == oci.KindManifests && p.arrived(pull.Reference, pull.Host, pull.Repository, r.RemoteAddr) {
		select {
		case <-r.Context().Done():
			// An answer could still arrive while containerd closes the connection.
			panic(http.ErrAbortHandler)
		case <-time.After(p.hold):
		}
	}
	oci.WriteError(w, r, http.StatusNotFound, oci.CodeManifestUnknown, "this is only a proof")
}
