package testregistry

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net"
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
	return r.Count(func(req Request) bool { return req.Token })
}

func (r *Registry) tokenPath() string { return cmp.Or(r.opts.TokenPath, "/token") }

// realm is where tokens are got.
func (r *Registry) realm(req *http.Request) string {
	host := req.Host
	if r.issuer != nil {
		_, port, err := net.SplitHostPort(r.issuer.Listener.Addr().String())
		if err != nil {
			panic(err) // a listener's own address
		}
		host = net.JoinHostPort("localhost", port)
	}
	return string(r.scheme()) + "://" + host + r.tokenPath()
}

// scope is what a request needs a token for.
func (r *Registry) scope(req *http.Request) string {
	repo := repoOf(req.URL.Path)
	switch {
	case repo == "":
		return ""
	case r.opts.Scope != nil:
		return r.opts.Scope(repo)
	default:
		return "repository:" + r.opts.InsideName + repo + ":pull"
	}
}

// authorized answers with a challenge and returns false when the request's
// Authorization is not good.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request) bool {
	basic := cmp.Or(r.opts.Basic, `Basic realm="testregistry"`)
	switch {
	case r.opts.Bearer:
		scope := r.scope(req)
		if token, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok && r.granted(token, scope) {
			return true
		}
		challenge := `Bearer realm="` + r.realm(req) + `"`
		if r.opts.Service != NoService {
			challenge += `,service="` + cmp.Or(r.opts.Service, "testregistry") + `",scope="` + scope + `"`
		}
		w.Header().Add("WWW-Authenticate", challenge)
		if r.opts.Basic != "" {
			w.Header().Add("WWW-Authenticate", basic)
		}
	case r.opts.Username != "":
		if r.passwordGood(req) {
			return true
		}
		if _, _, ok := req.BasicAuth(); ok && r.opts.Refusal != 0 {
			writeError(w, r.opts.Refusal, "DENIED", "the credentials are not good")
			return false
		}
		w.Header().Set("WWW-Authenticate", basic)
	default:
		return true
	}
	r.opts.Says.write(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
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

// RemoveUser takes back what AddUser did.
func (r *Registry) RemoveUser(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.others, name)
}

func (r *Registry) granted(token, scope string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.tokens[token]
	return ok && time.Now().Before(g.until) && (scope == "" || slices.Contains(g.scopes, scope))
}

// serveTokens is the server of TokensElsewhere.
func (r *Registry) serveTokens(w http.ResponseWriter, req *http.Request) {
	r.spoiled(w, req, false, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != r.tokenPath() {
			http.NotFound(w, req)
			return
		}
		r.serveToken(w, req)
	})
}

func (r *Registry) serveToken(w http.ResponseWriter, req *http.Request) {
	switch {
	case !r.opts.Limit.All && r.limited(w, req):
		return
	case req.Method != http.MethodGet:
		writeError(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "only GET")
		return
	case r.opts.Username != "" && !r.passwordGood(req):
		r.opts.Says.write(w, cmp.Or(r.opts.Refusal, http.StatusUnauthorized), "UNAUTHORIZED", "wrong password")
		return
	}
	ttl := cmp.Or(r.opts.TokenTTL, 5*time.Minute)
	token := rand.Text()
	r.mu.Lock()
	r.tokens[token] = grant{scopes: req.URL.Query()["scope"], until: time.Now().Add(ttl)}
	r.mu.Unlock()
	answer := map[string]any{cmp.Or(r.opts.TokenKey, "token"): token}
	if !r.opts.NoLife {
		answer["expires_in"] = int(ttl.Seconds())
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the client may be gone
}
