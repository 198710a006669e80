package testregistry

import (
	"fmt"
	"net/http"
	"strings"
)

// Manner is what registries do differently, each within the specification or beside
// it. Its fields are independent of each other; the zero value is a plain registry. See
// Products for who does what.
type Manner struct {
	// TokenPath is where tokens are got; "/token" if empty. TokensElsewhere is
	// another server for them, on "localhost".
	TokenPath       string
	TokensElsewhere bool
	// Service is named by challenges; "testregistry" if empty, NoService if none is.
	Service string
	// Scope is what challenges name for a repository, and what its token must be
	// good for; nil is the repository's own.
	Scope func(repository string) string
	// Basic is the Basic challenge. With Options.Bearer it is sent beside Bearer.
	Basic string
	// TokenKey is where the answer has the token; "token" if empty. NoLife leaves out
	// how long it is good.
	TokenKey string
	NoLife   bool
	// Refusal is the status for credentials that are wrong; 401 if 0.
	Refusal int
	// Says is how errors look.
	Says Body

	// RedirectStatus is that of redirects of blobs; 307 if 0. RedirectWithin is a path
	// of the registry itself to which they lead, instead of Options.RedirectBlobs.
	RedirectStatus int
	RedirectWithin string
	// RedirectHeads redirects HEADs of blobs too, to a URL that is signed for GET.
	RedirectHeads bool

	// Limit is how much is served.
	Limit Limit

	// NoDigest leaves out Docker-Content-Digest, MediaType is said of each manifest.
	NoDigest  bool
	MediaType string
	// NoRange serves blobs whole.
	NoRange bool
	// Referrers is how requests for referrers are answered: as specified if 0, with
	// 404, or with a redirect to somewhere else that knows nothing.
	Referrers int
	// Cookie is set with each answer.
	Cookie string
}

// NoService is a challenge without a service.
const NoService = "-"

// Body is the form of errors.
type Body int

// The forms. Text and Page are what servers in front of a registry say.
const (
	JSON Body = iota
	Text
	Page
)

// Limit is how many requests are served before the others are refused with 429.
type Limit struct {
	Pulls int // 0: all
	// Window follows the figures in RateLimit-Limit and -Remaining: ";w=21600". NoFigures
	// leaves both out.
	Window    string
	NoFigures bool
	// Heads counts HEADs of manifests, not GETs alone; Tokens counts requests for
	// tokens instead; All counts whatever is asked.
	Heads, Tokens, All bool
	RetryAfter         string
	Message            string
	Says               Body
}

// Exhaust uses up all that Limit serves.
func (r *Registry) Exhaust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = 0
}

// Left is how much of Limit is left.
func (r *Registry) Left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// limited is true when it has refused the request.
func (r *Registry) limited(w http.ResponseWriter, req *http.Request) bool {
	l := r.opts.Limit
	if l.Pulls == 0 || !r.limits(req) {
		return false
	}
	r.mu.Lock()
	counts := l.All || l.Tokens || l.Heads || req.Method == http.MethodGet
	refused := counts && r.left == 0
	if counts && !refused {
		r.left--
	}
	left := r.left
	r.mu.Unlock()
	if !l.NoFigures {
		w.Header().Set("RateLimit-Limit", fmt.Sprint(l.Pulls, l.Window))
		w.Header().Set("RateLimit-Remaining", fmt.Sprint(left, l.Window))
	}
	if refused {
		if l.RetryAfter != "" {
			w.Header().Set("Retry-After", l.RetryAfter)
		}
		l.Says.write(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", l.Message)
	}
	return refused
}

// limits reports whether the limit is for such a request.
func (r *Registry) limits(req *http.Request) bool {
	switch l := r.opts.Limit; {
	case l.All:
		return true
	case l.Tokens:
		return req.URL.Path == r.tokenPath()
	default:
		return strings.Contains(req.URL.Path, "/manifests/")
	}
}

func (b Body) write(w http.ResponseWriter, status int, code, message string) {
	switch b {
	case JSON:
		writeError(w, status, code, message)
	case Text:
		http.Error(w, message, status)
	case Page:
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "<html>\r\n<head><title>%d %[2]s</title></head>\r\n<body><center><h1>%[1]d %[2]s</h1></center></body>\r\n</html>\r\n",
			status, http.StatusText(status)) // the client may be gone
	}
}

// mannered changes an answer's header as the manner has it.
type mannered struct {
	http.ResponseWriter
	manner   Manner
	manifest bool
	begun    bool
}

func (w *mannered) WriteHeader(status int) {
	w.begun = true
	if w.manner.NoDigest {
		w.Header().Del("Docker-Content-Digest")
	}
	if w.manifest && w.manner.MediaType != "" && status == http.StatusOK {
		w.Header().Set("Content-Type", w.manner.MediaType)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *mannered) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// referrers is true when it has answered a request for them.
func (r *Registry) referrers(w http.ResponseWriter, req *http.Request) bool {
	switch status := r.opts.Referrers; {
	case status == 0 || !strings.Contains(req.URL.Path, "/referrers/"):
		return false
	case status == http.StatusNotFound:
		http.NotFound(w, req)
	default:
		w.Header().Set("Location", string(r.scheme())+"://"+r.CDNHost()+"/-"+req.URL.Path)
		w.WriteHeader(status)
	}
	return true
}
