package front

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
)

// Loaded is what the process serves by: the last good content of each key.
// Requests read it while one goroutine applies what the source brings.
type Loaded struct {
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
	// both are in use as they are in the source.
	identity string
	// seen is the content that was applied last, by key: an update of one key does not
	// parse the others again.
	seen map[string][sha256.Size]byte
	// problems are what is wrong with the present content, by key.
	problems map[string]error
}

// NewLoaded has nothing yet. It routes by the table.
func NewLoaded(table *routes.Table, log *slog.Logger) *Loaded {
	return &Loaded{table: table, log: log, seen: map[string][sha256.Size]byte{}, problems: map[string]error{}}
}

// Status is what the process reports about itself.
type Status struct {
	Generation int64 // that requests are routed by
	Proven     int64 // the same, once the target alone was seen to serve
	Version    string
	Identity   string // see Loaded
	// TargetFails is the target and why all pulls from it have failed for a while;
	// empty when they have not.
	TargetFails string
	Problem     error // nil when all of the source is in use
}

// Names of what is taken as one, beside the keys of layout and users.
const (
	partTLS    = "tls"
	partSource = "source"
)

// Apply takes over what is good in the content. The keys are independent:
// a broken list of users must not keep a layout from being served. The
// certificate and the users come first: they must be known before the new layout
// sends clients here.
func (l *Loaded) Apply(c Content) Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.note(partSource, c.Err); c.Err != nil {
		return l.statusLocked()
	}
	certificate, key, users := c.Data[KeyCertificate], c.Data[KeyKey], c.Data[v1alpha1.KeyProxyUsers]
	unread := errors.Join(c.Unread[KeyCertificate], c.Unread[KeyKey])
	l.part(partTLS, append(append([]byte{}, certificate...), key...), unread, func() error {
		if err := l.cert.Set(certificate, key); err != nil {
			return err
		}
		l.hasTLS = true
		return nil
	})
	l.part(v1alpha1.KeyProxyUsers, users, c.Unread[v1alpha1.KeyProxyUsers], func() error {
		parsed, err := regauth.ParseUsers(users)
		if err != nil {
			return err
		}
		l.users.Store(parsed)
		return nil
	})
	l.identity = ""
	if l.problems[partTLS] == nil && l.problems[v1alpha1.KeyProxyUsers] == nil {
		l.identity = regauth.Fingerprint(users, certificate)
	}
	l.part(v1alpha1.KeyProxyLayout, c.Data[v1alpha1.KeyProxyLayout], c.Unread[v1alpha1.KeyProxyLayout], func() error {
		return l.applyLayout(c.Data[v1alpha1.KeyProxyLayout])
	})
	return l.statusLocked()
}

// part runs take if the content has changed since the last time.
func (l *Loaded) part(name string, content []byte, unread error, take func() error) {
	if unread != nil {
		delete(l.seen, name)
		l.note(name, unread)
		return
	}
	sum := sha256.Sum256(content)
	if l.seen[name] == sum {
		return
	}
	l.seen[name] = sum
	err := errors.New("is missing")
	if len(content) > 0 {
		err = take()
	}
	if l.note(name, err); err == nil {
		l.log.Info("configuration taken", "part", name)
	}
}

// note notes what is wrong with a part, and logs it once.
func (l *Loaded) note(name string, err error) {
	was := l.problems[name]
	delete(l.problems, name)
	if err == nil {
		return
	}
	l.problems[name] = fmt.Errorf("%s: %w", name, err)
	if was == nil || was.Error() != l.problems[name].Error() {
		l.log.Warn("part of the configuration not taken; the last good one stays", "part", name, "err", err)
	}
}

// applyLayout routes by the layout if it is newer, or has other credentials that are
// provided.
func (l *Loaded) applyLayout(data []byte) error {
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

// Status is that of the moment.
func (l *Loaded) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.statusLocked()
}

func (l *Loaded) statusLocked() Status {
	if l.provedLocked() {
		l.proven = l.layout.Generation
	}
	s := Status{Generation: l.layout.Generation, Proven: l.proven, Identity: l.identity}
	if why := l.table.Failing(l.layout.Target); why != "" {
		s.TargetFails = l.layout.Target.String() + ": " + why
	}
	if s.Generation > 0 {
		s.Version = l.layout.Version()
	}
	if s.Proven < s.Generation && l.proof.of == routes.ProofOf(l.layout) && l.proof.err != nil {
		s.Problem = fmt.Errorf("target %s: %w", l.layout.Target, l.proof.err)
	}
	for _, name := range []string{partSource, partTLS, v1alpha1.KeyProxyUsers, v1alpha1.KeyProxyLayout} {
		s.Problem = errors.Join(s.Problem, l.problems[name])
	}
	return s
}

// Ready is nil when clients can be served.
func (l *Loaded) Ready() error {
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

// require asks for the credentials of a user. Before there are any, nobody can be told that
// theirs are wrong.
func (l *Loaded) require(next http.Handler) http.Handler {
	asked := regauth.Require(l.users.Load, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.users.Load() == nil {
			unavailable(w, r, "no users yet")
			return
		}
		asked.ServeHTTP(w, r)
	})
}
