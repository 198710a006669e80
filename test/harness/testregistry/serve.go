package testregistry

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Request is one request that the registry or its second server got.
type Request struct {
	Method string
	Path   string
	Query  string
	Header http.Header
	Digest string // of a blob or manifest that was asked for by digest
	CDN    bool   // it was the second server
	Status int    // answered; 0 when cut before
	Bytes  int64  // of the body
}

var digestInPath = regexp.MustCompile(`/(?:blobs|manifests)/(sha256:[0-9a-f]{64})$`)

// Requests are all that came so far, in that order. Token requests
// are among them.
func (r *Registry) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Request, 0, len(r.log))
	for _, rec := range r.log {
		all = append(all, *rec)
	}
	return all
}

// Count is how many of the requests so far match.
func (r *Registry) Count(match func(Request) bool) int {
	n := 0
	for _, req := range r.Requests() {
		if match(req) {
			n++
		}
	}
	return n
}

// Bytes is how many bytes of the bodies with this digest were sent.
func (r *Registry) Bytes(digest string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes[digest]
}

// ResetLog forgets the requests and bytes so far.
func (r *Registry) ResetLog() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = nil
	clear(r.bytes)
}

func (r *Registry) begin(rec *Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, rec)
}

// account notes the status, if it is the first, and some bytes of the body.
func (r *Registry) account(rec *Request, status, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.Status == 0 {
		rec.Status = status
	}
	rec.Bytes += int64(n)
	if rec.Digest != "" {
		r.bytes[rec.Digest] += int64(n)
	}
}

func (r *Registry) serveRegistry(w http.ResponseWriter, req *http.Request) {
	r.spoiled(w, req, false, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case r.opts.Inside != "" && !r.inside(w, req):
		case req.URL.Path == "/token":
			r.serveToken(w, req)
		case !r.authorized(w, req):
		case req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/"):
			if r.opts.RedirectBlobs == "" {
				r.serveBlob(w, req)
				return
			}
			// The signature stands for what real ones carry in the query.
			w.Header().Set("Location", string(r.scheme())+"://"+r.CDNHost()+req.URL.Path+"?signature=secret")
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			r.store.ServeHTTP(w, req)
		}
	})
}

func (r *Registry) serveCDN(w http.ResponseWriter, req *http.Request) {
	r.spoiled(w, req, true, r.serveBlob)
}

// spoiled serves with the faults of the moment and writes the log.
func (r *Registry) spoiled(w http.ResponseWriter, req *http.Request, cdn bool, next http.HandlerFunc) {
	rec := &Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone(), CDN: cdn}
	if m := digestInPath.FindStringSubmatch(req.URL.Path); m != nil {
		rec.Digest = m[1]
	}
	f := r.fault(req)
	spoiled := &faultyWriter{ResponseWriter: w, registry: r, req: req, faults: f, record: rec}
	r.begin(rec)
	if r.misbehave(spoiled, req, f) {
		next(spoiled, req)
	}
}

// serveBlob answers with net/http's own Range and conditions; the store's are
// not complete.
func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request) {
	m := digestInPath.FindStringSubmatch(req.URL.Path)
	if m == nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "not a digest")
		return
	}
	hash, err := v1.NewHash(m[1])
	if err != nil {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "not a digest")
		return
	}
	body, err := r.blobs.Get(req.Context(), "", hash)
	if err != nil {
		writeError(w, http.StatusNotFound, "BLOB_UNKNOWN", "no such blob in "+repoOf(req.URL.Path))
		return
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(body)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", "read the blob")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", m[1])
	w.Header().Set("Etag", `"`+m[1]+`"`)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}

// repoOf is the repository in a path of the API: all before the last two parts. Its
// name may hold any word of the API.
func repoOf(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/v2/"), "/")
	last := len(parts) - 1
	if last < 2 || !slices.Contains([]string{"manifests", "blobs", "referrers", "tags"}, parts[last-1]) {
		return ""
	}
	return strings.Join(parts[:last-1], "/")
}

// inside takes a request through Options.Inside; false means that it was answered
// with a redirect.
func (r *Registry) inside(w http.ResponseWriter, req *http.Request) bool {
	if path, ok := strings.CutPrefix(req.URL.Path, r.opts.Inside); ok {
		req.URL.Path = path
		return true
	}
	if repoOf(req.URL.Path) == "" {
		return true
	}
	w.Header().Set("Location", r.opts.Inside+req.URL.Path)
	w.WriteHeader(http.StatusTemporaryRedirect)
	return false
}

func writeError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone.
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
