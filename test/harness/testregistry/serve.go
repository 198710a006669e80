package testregistry

import (
	"bytes"
	"cmp"
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
	Token  bool   // it was for a token
	Status int    // answered; 0 when cut before
	Bytes  int64  // of the body
}

var digestInPath = regexp.MustCompile(`/(?:blobs|downloads|manifests)/(sha256:[0-9a-f]{64})$`)

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
		case r.opts.Limit.All && r.limited(w, req):
		case r.issuer == nil && req.URL.Path == r.tokenPath():
			r.serveToken(w, req)
		case r.opts.RedirectWithin != "" && strings.HasPrefix(req.URL.Path, r.opts.RedirectWithin):
			r.serveBlob(w, req)
		case !r.authorized(w, req), r.referrers(w, req), !r.opts.Limit.All && r.limited(w, req), r.redirectedBlob(w, req):
		case req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/"):
			r.serveBlob(w, req)
		default:
			r.store.ServeHTTP(w, req)
		}
	})
}

// redirectedBlob is true when it has sent a request for a blob elsewhere.
func (r *Registry) redirectedBlob(w http.ResponseWriter, req *http.Request) bool {
	_, digest, found := strings.Cut(req.URL.Path, "/blobs/")
	if !found || req.Method != http.MethodGet && !r.opts.RedirectHeads {
		return false
	}
	to := r.opts.RedirectWithin + "/downloads/" + digest
	switch {
	case r.opts.RedirectBlobs != "":
		to = string(r.scheme()) + "://" + r.CDNHost() + req.URL.Path
	case r.opts.RedirectWithin == "":
		return false
	}
	// The signature stands for what real ones carry in the query.
	w.Header().Set("Location", to+"?signature=secret")
	w.WriteHeader(cmp.Or(r.opts.RedirectStatus, http.StatusTemporaryRedirect))
	return true
}

// serveCDN is the second server. A signed URL is good for GET alone, and allows no other
// authentication beside it.
func (r *Registry) serveCDN(w http.ResponseWriter, req *http.Request) {
	r.spoiled(w, req, true, func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/-/"):
			Page.write(w, http.StatusNotFound, "", "")
		case req.Header.Get("Authorization") != "":
			Text.write(w, http.StatusBadRequest, "", "only one way to authenticate is allowed")
		case req.Method != http.MethodGet:
			Text.write(w, http.StatusForbidden, "", "the signature does not match")
		default:
			r.serveBlob(w, req)
		}
	})
}

// spoiled serves with the faults of the moment and writes the log.
func (r *Registry) spoiled(w http.ResponseWriter, req *http.Request, cdn bool, next http.HandlerFunc) {
	rec := &Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone(), CDN: cdn,
		Token: !cdn && req.URL.Path == r.tokenPath()}
	if m := digestInPath.FindStringSubmatch(req.URL.Path); m != nil {
		rec.Digest = m[1]
	}
	f := r.fault(req)
	spoiled := &faultyWriter{ResponseWriter: w, registry: r, req: req, faults: f, record: rec}
	r.begin(rec)
	if r.opts.Cookie != "" {
		w.Header().Set("Set-Cookie", r.opts.Cookie)
	}
	if r.opts.NoRange {
		req.Header.Del("Range")
	}
	if r.misbehave(spoiled, req, f) {
		next(&mannered{ResponseWriter: spoiled, manner: r.opts.Manner, manifest: strings.Contains(req.URL.Path, "/manifests/")}, req)
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
