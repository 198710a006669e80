package serve

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// codeDenied is the OCI code for a caller that shows no node token.
const codeDenied = "DENIED"

// handler is everything that is served on loopback.
type handler struct {
	tokens  *tokens
	keeper  *keeper
	mirrors *mirrors
	proofs  *proofs
	pulls   http.Handler
	// alive is an error when a step has hung.
	alive func() error
	// stopping closes when long questions should end.
	stopping <-chan struct{}
}

// routes reads in the order in which a request meets each part, from outer to
// inner.
func (h *handler) routes() http.Handler {
	inner := http.NewServeMux()
	inner.HandleFunc("GET "+handoff.PathStatus, h.status)
	inner.HandleFunc("POST "+handoff.PathProof+"{nonce}", h.expect)
	inner.HandleFunc("GET "+handoff.PathProof+"{nonce}", h.seen)
	inner.HandleFunc("POST "+handoff.PathApplied+"{generation}", h.acknowledge(h.keeper.applied))
	inner.HandleFunc("POST "+handoff.PathForget+"{generation}", h.acknowledge(h.keeper.forget))
	inner.HandleFunc("POST "+handoff.PathMirrors, h.mirrors.reload)
	inner.HandleFunc("/v2/", h.pull)

	outer := http.NewServeMux()
	outer.HandleFunc("GET "+v1alpha1.PathAlive, h.live)
	outer.HandleFunc("GET /readyz", h.ready)
	outer.Handle("/", h.authenticated(inbound.Known(inner)))
	return outer
}

// authenticated lets in only requests with the node token, which containerd and the
// other half have: pulls behind it use the cluster's credentials. The answer is 403
// and never 401, so that containerd tries the next host and does not send the pod's
// credentials here.
func (h *handler) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.tokens.accepts(r.Header.Get(hostsdir.TokenHeader)) {
			oci.WriteError(w, r, http.StatusForbidden, codeDenied, "the node token is missing or wrong")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// live answers the kubelet, which starts a half anew that has hung. Pulls need nothing
// of what may hang there, so that takes long to be said.
func (h *handler) live(w http.ResponseWriter, _ *http.Request) {
	if err := h.alive(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

func (h *handler) ready(w http.ResponseWriter, _ *http.Request) {
	if status, _ := h.keeper.snapshot(); status.Generation == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// pull routes one request of a pull. It takes no lock that is held during a write
// to disk: a pull must not wait for a slow disk.
func (h *handler) pull(w http.ResponseWriter, r *http.Request) {
	pull, err := oci.Parse(r)
	if err != nil {
		h.pulls.ServeHTTP(w, r) // which says what is wrong
		return
	}
	if isProof(pull) {
		h.proofs.serve(w, r, pull)
		return
	}
	defer h.keeper.retired.use(pull.Host, pull.Repository)()
	h.pulls.ServeHTTP(w, r)
}

// status answers at once if the caller has seen another status, else when it
// changes.
func (h *handler) status(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		after = -1
	}
	revision, _ := strconv.ParseInt(r.URL.Query().Get("revision"), 10, 64) // 0 if there is none
	timeout := time.After(handoff.MaxWait)
	for wait := true; ; {
		status, changed := h.keeper.snapshot()
		if !wait || status.Generation > after || revision > 0 && status.Revision != revision {
			write(w, status)
			return
		}
		select {
		case <-changed:
		case <-timeout:
			wait = false
		case <-h.stopping:
			wait = false
		case <-r.Context().Done():
			return
		}
	}
}

func (h *handler) expect(w http.ResponseWriter, r *http.Request) {
	name := layout.Name{Host: r.URL.Query().Get("host"), Path: r.URL.Query().Get("path")}
	if name.Host == "" || !h.proofs.expect(r.PathValue("nonce"), name) {
		http.Error(w, "malformed or known nonce", http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *handler) seen(w http.ResponseWriter, r *http.Request) {
	wait, _ := time.ParseDuration(r.URL.Query().Get("wait")) // 0 if there is none
	write(w, h.proofs.seen(r.Context(), r.PathValue("nonce"), min(wait, handoff.MaxWait)))
}

// acknowledge passes on what the other half says about a generation.
func (h *handler) acknowledge(what func(generation int64)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		generation, err := strconv.ParseInt(r.PathValue("generation"), 10, 64)
		if err != nil {
			http.Error(w, "malformed generation", http.StatusBadRequest)
			return
		}
		what(generation)
		w.WriteHeader(http.StatusNoContent)
	}
}

func write(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the caller may be gone
}
