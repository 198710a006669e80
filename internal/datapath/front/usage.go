package front

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/regauth"
)

const (
	// maxClients is how many are named at most.
	maxClients = 10
	// clientWindow is how long a client is named after its last request.
	clientWindow = 10 * time.Minute
)

// Usage remembers when in-cluster clients last used the process, and which ones.
// The in-cluster proxy is stopped only when none did for a while. Nodes do not count: for
// them it is only a fallback.
type Usage struct {
	now  func() time.Time
	Used chan struct{} // gets a token when there is something new

	mu      sync.Mutex
	last    time.Time
	clients map[string]time.Time
	flight  map[string]int    // requests under way, by client
	olds    map[string]string // last use of an old password, by user
}

// NewUsage has seen nobody.
func NewUsage(now func() time.Time) *Usage {
	return &Usage{now: now, Used: make(chan struct{}, 1), clients: map[string]time.Time{}, flight: map[string]int{}, olds: map[string]string{}}
}

// Counted notes the caller that regauth.Require found, and serves.
func (u *Usage) Counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok := regauth.UserFrom(r.Context())
		if ok && user.Old {
			u.noteOld(user.Name, r.RemoteAddr)
		}
		if ok && user.Role == regauth.RoleClient {
			defer u.Note(r.RemoteAddr)()
		}
		next.ServeHTTP(w, r)
	})
}

// noteOld notes the use of a password that is being replaced: by nodes too.
func (u *Usage) noteOld(name, remote string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.olds[name] = u.now().UTC().Format(time.RFC3339) + " " + hostOf(remote)
	u.wake()
}

// Old is the last use of old passwords by user, comma-separated.
func (u *Usage) Old() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(u.olds)) {
		all = append(all, name+" "+u.olds[name])
	}
	return strings.Join(all, ",")
}

func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// Note is called when a request begins, and what it returns when it ends: a
// download counts as use for as long as it takes.
func (u *Usage) Note(remote string) (ended func()) {
	host := hostOf(remote)
	u.count(host, 1)
	return func() { u.count(host, -1) }
}

// count changes the number of requests under way.
func (u *Usage) count(host string, by int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flight[host] += by; u.flight[host] == 0 {
		delete(u.flight, host)
	}
	u.seen(host)
	u.wake()
}

// seen is called with the lock held.
func (u *Usage) seen(host string) {
	u.last = u.now()
	u.clients[host] = u.last
	if len(u.clients) > maxClients {
		oldest := host
		for client, at := range u.clients {
			if at.Before(u.clients[oldest]) {
				oldest = client
			}
		}
		delete(u.clients, oldest)
	}
}

func (u *Usage) wake() {
	select {
	case u.Used <- struct{}{}:
	default: // one is waiting already
	}
}

// Busy reports whether there is a request under way.
func (u *Usage) Busy() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.flight) > 0
}

// Latest is the time of the last use, which is now while a request is under
// way, zero if there was none, and the addresses of the latest clients,
// comma-separated.
func (u *Usage) Latest() (time.Time, string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for host := range u.flight {
		u.seen(host)
	}
	maps.DeleteFunc(u.clients, func(_ string, at time.Time) bool { return u.last.Sub(at) > clientWindow })
	return u.last, strings.Join(slices.Sorted(maps.Keys(u.clients)), ",")
}
