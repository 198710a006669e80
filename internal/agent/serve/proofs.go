package serve

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/agent/seam"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/proxy"
)

// proofs are the pulls that node announced: seen or not yet. A nonce counts
// once, for one name, and only with the node token, which outer handlers check.
type proofs struct {
	now func() time.Time

	mu      sync.Mutex
	pending map[string]*proof
}

type proof struct {
	name  layout.Name
	since time.Time
	used  bool
	seen  chan struct{}
}

const (
	proofLife  = 5 * time.Minute
	maxPending = 1000
)

var nonceForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{15,127}$`)

func newProofs() *proofs { return &proofs{now: time.Now, pending: map[string]*proof{}} }

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

// arrived notes a request for the nonce below a name.
func (p *proofs) arrived(nonce, host, repository string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.pending[nonce]
	if known == nil || known.name.Host != host || !strings.HasPrefix(repository, prefix(known.name)) {
		return false
	}
	if !known.used {
		known.used = true
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

// seen waits for a nonce to arrive, and forgets it.
func (p *proofs) seen(ctx context.Context, nonce string, wait time.Duration) bool {
	p.mu.Lock()
	known := p.pending[nonce]
	p.mu.Unlock()
	if known == nil {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	arrived := false
	select {
	case <-known.seen:
		arrived = true
	case <-timer.C:
		select { // both may be true
		case <-known.seen:
			arrived = true
		default:
		}
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, nonce)
	return arrived
}

// isProof tells pulls of proofs from all others.
func isProof(pull proxy.Pull) bool {
	return pull.Repository == seam.ProofRepository || strings.HasSuffix(pull.Repository, "/"+seam.ProofRepository)
}

// Every proof gets the same answer: an image for no platform. containerd finds
// nothing to pull in it and stops there, where a 404 would send it on to the
// second way or to the real registry, with a pull that nobody needs.
const (
	proofIndex       = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	proofIndexDigest = "sha256:dff9de10919148711140d349bf03f1a99eb06f94b03e51715ccebfa7cdc518e2"
)

// serve answers a pull of a proof, and notes that it came.
func (p *proofs) serve(w http.ResponseWriter, r *http.Request, pull proxy.Pull) {
	known := pull.Kind == proxy.KindManifests && (pull.Reference == proofIndexDigest || p.arrived(pull.Reference, pull.Host, pull.Repository))
	if !known {
		proxy.WriteError(w, r, http.StatusNotFound, proxy.CodeManifestUnknown, "no such proof")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	h.Set("Docker-Content-Digest", proofIndexDigest)
	h.Set("Content-Length", strconv.Itoa(len(proofIndex)))
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(proofIndex)) // containerd may be gone
	}
}
