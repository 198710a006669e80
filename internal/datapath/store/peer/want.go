package peer

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/fetch"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
)

const (
	// wantPath is where a store is told of what it should have too; a pull follows.
	wantPath = "/-/want"
	// mostWants bounds each queue. What does not fit is not copied: it is fetched when it is asked for.
	mostWants = 1024
	// mostComing bounds of how many it is known that they come from a registry.
	mostComing = 4096
	// copiers is how many are copied at a time.
	copiers = 2
)

// note remembers what comes from a registry: once it is here, another store is to have it too.
func (p *Peers) note(pull oci.Pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.coming) >= mostComing {
		clear(p.coming)
	}
	p.coming[pull.Reference] = pull
}

// Stored is told of each blob that is here from now on. It does not wait.
func (p *Peers) Stored(digest string) {
	p.mu.Lock()
	pull, known := p.coming[digest]
	delete(p.coming, digest)
	p.mu.Unlock()
	if known && !offer(p.tell, pull) {
		p.metrics.copy(dropped)
	}
}

// offer is false if there is no room.
func offer(queue chan<- oci.Pull, pull oci.Pull) bool {
	select {
	case queue <- pull:
		return true
	default:
		return false
	}
}

// Run tells others what they should have, and copies what others tell, until the context ends.
func (p *Peers) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { each(ctx, p.tell, p.tellNext) })
	for range copiers {
		all.Go(func() { each(ctx, p.wanted, p.copy) })
	}
	all.Wait()
}

func each(ctx context.Context, queue <-chan oci.Pull, do func(context.Context, oci.Pull)) {
	for {
		select {
		case pull := <-queue:
			do(ctx, pull)
		case <-ctx.Done():
			return
		}
	}
}

// tellNext tells the first one that comes after this store and answers: it will ask here.
func (p *Peers) tellNext(ctx context.Context, pull oci.Pull) {
	_, after := p.now.Load().around(pull.Reference)
	for _, t := range after {
		if !t.Health.Probe(time.Now(), fetch.DefaultProbe) {
			continue
		}
		err := tell(ctx, t, pull)
		if err == nil {
			t.Health.Served(false)
			p.metrics.copy(told)
			return
		}
		if ctx.Err() != nil {
			return
		}
		t.Health.Failed(time.Now(), fetch.DefaultProbe, false)
		p.cfg.Log.Info("another store could not be told of a blob; it asks when it is asked", "store", t.Host(), "digest", pull.Reference, "err", err)
	}
	if len(after) > 0 {
		p.metrics.copy(untold)
	}
}

func tell(ctx context.Context, t *routes.Target, pull oci.Pull) error {
	ctx, cancel := context.WithTimeout(ctx, fetch.DefaultHop)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+t.Host()+wantPath+pathOf(pull), http.NoBody)
	if err != nil {
		return fmt.Errorf("tell: %w", err)
	}
	resp, err := t.Transport.RoundTrip(req) //nolint:bodyclose // Discard does
	if err != nil {
		return fmt.Errorf("tell: %w", err)
	}
	regauth.Discard(resp)
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("tell: %s", resp.Status)
	}
	return nil
}

func pathOf(pull oci.Pull) string {
	return oci.Root + pull.Path(pull.Repository) + "?ns=" + url.QueryEscape(pull.Host)
}

// want is a store that tells of a blob.
func (p *Peers) want(w http.ResponseWriter, r *http.Request) {
	r = r.Clone(r.Context())
	r.URL.Path = strings.TrimPrefix(r.URL.Path, wantPath)
	pull, err := oci.Parse(r)
	switch {
	case err != nil:
		oci.Answer(w, r, err)
	case r.Method != http.MethodPost || !isContent(pull):
		oci.WriteError(w, r, http.StatusMethodNotAllowed, oci.CodeUnsupported, "only content by digest can be wanted")
	case !offer(p.wanted, pull):
		p.metrics.copy(dropped)
		w.Header().Set("Retry-After", "5")
		oci.WriteError(w, r, http.StatusServiceUnavailable, oci.CodeUnavailable, "too much is wanted already")
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// copy pulls what another store has, for nobody: so it is here too.
func (p *Peers) copy(ctx context.Context, pull oci.Pull) {
	if p.cfg.Has(pull.Reference) {
		p.metrics.copy(there)
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+pull.Host+pathOf(pull), http.NoBody)
	if err != nil {
		return // a pull that was parsed is one
	}
	defer func() {
		outcome := failed
		if p.cfg.Has(pull.Reference) {
			outcome = copied
		}
		p.metrics.copy(outcome)
		if why := recover(); why != nil && why != http.ErrAbortHandler { //nolint:errorlint // it is thrown as it is
			panic(why)
		}
	}()
	p.pulls.ServeHTTP(nobody{http.Header{}}, req)
}

// nobody reads all that comes.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header       { return n.header }
func (nobody) Write(b []byte) (int, error) { return len(b), nil }
func (nobody) WriteHeader(int)             {}
func (nobody) Flush()                      {}
