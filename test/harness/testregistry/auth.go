package testregistry

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// grant is what one token allows.
type grant struct {
	scopes []string
	until  time.Time
}

// ExpireTokens makes every token that was handed out bad, whatever life it was
// promised.
func (r *Registry) ExpireTokens() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.tokens)
}

// TokenRequests is how many tokens were asked for.
func (r *Registry) TokenRequests() int {
	return r.Count(func(req Request) bool { return req.Path == "/token" })
}

// authorized answers with a challenge and returns false when the request's
// Authorization is not good.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request) bool {
	switch {
	case r.opts.Bearer:
		scope := ""
		if repo := repoOf(req.URL.Path); repo != "" {
			scope = "repository:" + r.opts.InsideName + repo + ":pull"
		}
		if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok && r.granted(token, scope) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+string(r.scheme())+"://"+req.Host+`/token",service="testregistry",scope="`+scope+`"`)
	case r.opts.Username != "":
		if r.passwordGood(req) {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="testregistry"`)
	default:
		return true
	}
	writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func (r *Registry) passwordGood(req *http.Request) bool {
	name, password, ok := req.BasicAuth()
	r.mu.Lock()
	other, known := r.others[name]
	r.mu.Unlock()
	return ok && (name == r.opts.Username && password == r.opts.Password || known && password == other)
}

// AddUser lets somebody else in beside Options.Username, as when credentials
// are rotated.
func (r *Registry) AddUser(name, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.others == nil {
		r.others = map[string]string{}
	}
	r.others[name] = password
}

func (r *Registry) granted(token, scope string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.tokens[token]
	return ok && time.Now().Before(g.until) && (scope == "" || slices.Contains(g.scopes, scope))
}

func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	if r.opts.Username != "" && !r.passwordGood(req) {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong password")
		return
	}
	ttl := r.opts.TokenTTL
	if ttl == 0 {
		ttl = 5 * time.Minute
	}
	token := rand.Text()
	r.mu.Lock()
	r.tokens[token] = grant{scopes: req.URL.Query()["scope"], until: time.Now().Add(ttl)}
	r.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	// The client may be gone.
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(ttl.Seconds())})
}
