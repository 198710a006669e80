// Package peer is the other stores of the cluster: who of them is asked in front of the
// registries, and who of them may ask here. So each blob is fetched from a registry once,
// whichever store is asked for it.
//
// A store asks only those that come before it in the order of package owner, so that no two
// wait for each other, whatever lists they have; and what is asked by another store is passed on
// to nobody else who would fetch it. The next one after it is asked for what it has, and where nobody
// waits all of them are: so a store that was gone, or whose disk was lost, has nothing fetched again.
// A store that does not answer costs a moment and a second fetch, never a pull: see package fetch,
// where stores are upstreams that say nothing about others.
//
// Who got a blob from a registry tells the next store in the order of it, which copies it: so one
// store that is lost, and a registry that is away, together lose nothing.
//
// Stores know each other by the certificates that they serve with. Start at (*Peers).Apply, then
// Transport, which is who asks, and Around, which is who is asked.
package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/upstream"
)

// Key is the file that says who the stores are. Without one a store is alone.
const Key = "stores"

// Stores is that file, as JSON. It is the same on all stores, but for Self; where it is not, for a
// while, some blobs are fetched twice.
type Stores struct {
	// Self is the endpoint of the store that reads it, which need not be among the Endpoints.
	Self string `json:"self"`
	// Endpoints are IP and port of each store that is to be asked.
	Endpoints []string `json:"endpoints"`
	// CA signed the certificates of all, in PEM. While it is replaced both are in it.
	CA string `json:"ca"`
}

// mostStores bounds a list.
const mostStores = 64

// Config is what Peers go by.
type Config struct {
	// Has reports whether a blob is here.
	Has func(digest string) bool
	// Idle reports whether nobody waits for a pull.
	Idle func(ctx context.Context) bool
	Log  *slog.Logger
}

// Peers are the stores as they are known now. All methods may be called at once.
type Peers struct {
	cfg          Config
	metrics      metrics
	now          atomic.Pointer[peers]
	pulls        http.Handler
	tell, wanted chan oci.Pull

	mu      sync.Mutex
	seen    [sha256.Size]byte
	problem error
	coming  map[string]oci.Pull // from registries, by digest
}

// peers do not change.
type peers struct {
	Stores
	targets map[string]*routes.Target // but for Self
	keepers map[string]*routes.Target // the same ones, asked for what they have
	roots   *x509.CertPool
}

// New knows of no other store.
func New(cfg Config) *Peers {
	p := &Peers{cfg: cfg, metrics: newMetrics(), tell: make(chan oci.Pull, mostWants), wanted: make(chan oci.Pull, mostWants), coming: map[string]oci.Pull{}}
	p.now.Store(&peers{})
	return p
}

// Apply takes over a file, with the certificate that is shown to others. What is wrong changes
// nothing, see Problem; nor does a file that could not be read. No file is a store alone.
func (p *Peers) Apply(file []byte, unread error, certificate, key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if unread != nil {
		p.seen, p.problem = [sha256.Size]byte{}, unread
		return
	}
	sum := sha256.Sum256(bytes.Join([][]byte{file, certificate, key}, []byte{0}))
	if sum == p.seen {
		return
	}
	next, err := p.read(file, certificate, key)
	if p.seen, p.problem = sum, err; err != nil {
		return
	}
	p.now.Swap(next).close()
}

// Problem is what is wrong with the file that was applied last.
func (p *Peers) Problem() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// Close closes connections that wait.
func (p *Peers) Close() { p.now.Load().close() }

func (p *peers) close() {
	for endpoint, t := range p.targets {
		t.Transport.CloseIdleConnections()
		p.keepers[endpoint].Transport.CloseIdleConnections()
	}
}

func (p *Peers) read(file, certificate, key []byte) (*peers, error) {
	if len(file) == 0 {
		return &peers{}, nil
	}
	all := &peers{roots: x509.NewCertPool(), targets: map[string]*routes.Target{}, keepers: map[string]*routes.Target{}}
	if err := json.Unmarshal(file, &all.Stores); err != nil {
		return nil, fmt.Errorf("%s: %w", Key, err)
	}
	if len(all.Endpoints) > mostStores {
		return nil, fmt.Errorf("%s: %d endpoints, and no more than %d may be", Key, len(all.Endpoints), mostStores)
	}
	if !all.roots.AppendCertsFromPEM([]byte(all.CA)) {
		return nil, fmt.Errorf("%s: ca holds no PEM certificate", Key)
	}
	for i, endpoint := range append([]string{all.Self}, all.Endpoints...) {
		if at, err := netip.ParseAddrPort(endpoint); err != nil || at.String() != endpoint {
			return nil, fmt.Errorf("%s: entry %d is no IP and port, written as usual", Key, i) // 0 is self
		}
		if endpoint == all.Self {
			continue
		}
		for onlyKept, of := range map[bool]map[string]*routes.Target{false: all.targets, true: all.keepers} {
			t, err := routes.NewStore(endpoint, all.CA, upstream.ClientCert{Cert: string(certificate), Key: string(key)}, onlyKept)
			if err != nil {
				return nil, fmt.Errorf("%s: reach %s: %w", Key, endpoint, err)
			}
			t.Transport = counting{t.Transport, p.metrics.bytes}
			of[endpoint] = t
		}
		all.keepers[endpoint].Server = all.targets[endpoint].Server // it is one machine
	}
	return all, nil
}

// order is that of owner.Of, with this store in it.
func (p *peers) order(digest string) []string {
	return owner.Of(digest, append([]string{p.Self}, p.Endpoints...))
}

// around are those that come before this store, and after it.
func (p *peers) around(digest string) (before, after []*routes.Target) {
	for _, endpoint := range p.order(digest) {
		if t := p.targets[endpoint]; t != nil {
			after = append(after, t)
		} else { // this one
			before, after = after, nil
		}
	}
	return before, after
}

// Second reports whether another store is the owner of a digest: what there is here of it may go
// first.
func (p *Peers) Second(digest string) bool {
	all := p.now.Load()
	return len(all.targets) > 0 && all.order(digest)[0] != all.Self
}
