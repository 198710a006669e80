package gateway

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
)

// loaded is what the process serves by: the last good content of each key.
// Requests read it while one goroutine applies what the watch brings.
type loaded struct {
	table *routes.Table
	cert  pki.Reloader
	users atomic.Pointer[regauth.Users]
	log   *slog.Logger

	mu     sync.Mutex
	layout layout.Layout
	proof  targetProof
	proven int64 // the last generation whose target was proved
	hasTLS bool
	// identity stands for users and certificate, see regauth.Fingerprint; empty before
	// both are in use as they are in the Secret.
	identity string
	// seen is the content of the Secret that was applied last, by key: an
	// update of one key does not parse the others again.
	seen map[string][sha256.Size]byte
	// problems are what is wrong with the present Secret, by key.
	problems map[string]error
}

func newLoaded(table *routes.Table, log *slog.Logger) *loaded {
	return &loaded{table: table, log: log, seen: map[string][sha256.Size]byte{}, problems: map[string]error{}}
}

// status is what the process reports about itself.
type status struct {
	generation int64 // that requests are routed by
	proven     int64 // the same, once the target alone was seen to serve
	version    string
	identity   string // see loaded
	// targetFails is the target and why all pulls from it have failed for a while;
	// empty when they have not.
	targetFails string
	problem     error // nil when all of the Secret is in use
}

// apply takes over what is good in the Secret's data. The keys are independent:
// a broken list of users must not keep a layout from being served. The
// certificate and the users come first: they must be known before the new layout
// sends clients here.
func (l *loaded) apply(data map[string][]byte) status {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part("tls", append(append([]byte{}, data[corev1.TLSCertKey]...), data[corev1.TLSPrivateKeyKey]...), func() error {
		if err := l.cert.Set(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey]); err != nil {
			return err
		}
		l.hasTLS = true
		return nil
	})
	l.part(v1alpha1.KeyProxyUsers, data[v1alpha1.KeyProxyUsers], func() error {
		users, err := regauth.ParseUsers(data[v1alpha1.KeyProxyUsers])
		if err != nil {
			return err
		}
		l.users.Store(users)
		return nil
	})
	l.identity = ""
	if l.problems["tls"] == nil && l.problems[v1alpha1.KeyProxyUsers] == nil {
		l.identity = regauth.Fingerprint(data[v1alpha1.KeyProxyUsers], data[corev1.TLSCertKey])
	}
	l.part(v1alpha1.KeyProxyLayout, data[v1alpha1.KeyProxyLayout], func() error { return l.applyLayout(data[v1alpha1.KeyProxyLayout]) })
	return l.statusLocked()
}

// part runs take if the content has changed since the last time.
func (l *loaded) part(name string, content []byte, take func() error) {
	sum := sha256.Sum256(content)
	if l.seen[name] == sum {
		return
	}
	l.seen[name] = sum
	delete(l.problems, name)
	err := errors.New("is missing")
	if len(content) > 0 {
		err = take()
	}
	if err != nil {
		l.problems[name] = fmt.Errorf("%s: %w", name, err)
		l.log.Warn("part of the configuration not taken; the last good one stays", "part", name, "err", err)
		return
	}
	l.log.Info("configuration taken", "part", name)
}

// applyLayout routes by the layout if it is newer, or has other credentials that are
// provided.
func (l *loaded) applyLayout(data []byte) error {
	next, err := layout.Decode(data)
	switch {
	case err != nil:
		return err
	case next.Generation < l.layout.Generation:
		return fmt.Errorf("generation %d is older than %d, which is served", next.Generation, l.layout.Generation)
	case next.Generation == l.layout.Generation && !next.SameContent(l.layout):
		return fmt.Errorf("generation %d has another content than the one that is served", next.Generation)
	}
	if err := l.table.Swap(next); err != nil {
		return err
	}
	l.layout = next
	l.log.Info("layout served", "generation", next.Generation, "version", next.Version(), "mode", next.Mode)
	return nil
}

func (l *loaded) status() status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statusLocked()
}

func (l *loaded) statusLocked() status {
	if l.provedLocked() {
		l.proven = l.layout.Generation
	}
	s := status{generation: l.layout.Generation, proven: l.proven, identity: l.identity}
	if why := l.table.Failing(l.layout.Target); why != "" {
		s.targetFails = l.layout.Target.String() + ": " + why
	}
	if s.generation > 0 {
		s.version = l.layout.Version()
	}
	if s.proven < s.generation && l.proof.of == routes.ProofOf(l.layout) && l.proof.err != nil {
		s.problem = fmt.Errorf("target %s: %w", l.layout.Target, l.proof.err)
	}
	for _, name := range []string{"tls", v1alpha1.KeyProxyUsers, v1alpha1.KeyProxyLayout} {
		s.problem = errors.Join(s.problem, l.problems[name])
	}
	return s
}

// ready is nil when clients can be served.
func (l *loaded) ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.hasTLS:
		return errors.New("no certificate yet")
	case l.users.Load() == nil:
		return errors.New("no users yet")
	case l.layout.Generation == 0:
		return errors.New("no layout yet")
	}
	return nil
}
