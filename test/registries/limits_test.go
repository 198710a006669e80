package registries

import (
	"net/http"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// TestLimits: what a client gets of a registry that serves no more for now, and that
// another registry serves instead.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, p := range testregistry.Products() {
		if p.Options.Limit.Pulls == 0 {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			limited(t, p)
		})
	}
}

func limited(t *testing.T, p testregistry.Product) {
	t.Helper()
	p.Options.TLS = true
	r, other, c := testregistry.New(t, p.Options), testregistry.New(t, testregistry.Options{TLS: true}), theContent(t)
	r.Push(t, p.Repository+"/tool", "v1", c.index)
	other.Push(t, "mirror/tool", "v1", c.index)
	u, limit := r.Upstream(p.Repository), p.Options.Limit
	alone, check := newFront(t, u), asked(t, u)
	got := alone.wants(http.StatusOK, nil, http.MethodGet, "/manifests/v1") // it has its token now
	if figures := got.header.Get("Ratelimit-Remaining"); (figures == "") != limit.NoFigures {
		t.Errorf("the client gets the figure %q", figures)
	}
	if err := check.Image(t.Context(), "tool:v1", nil); err != nil {
		t.Errorf("the image check before the limit: %v", err)
	}
	left := r.Left()
	alone.wants(http.StatusOK, nil, http.MethodHead, "/manifests/v1")
	if counted := limit.Heads || limit.All; (r.Left() < left) != counted {
		t.Errorf("a HEAD of a manifest took %d, counted: %t", left-r.Left(), counted)
	}
	r.Exhaust()
	fronts := []front{newFront(t, u)} // without a token
	if limit.Tokens {
		alone.wants(http.StatusOK, nil, http.MethodGet, "/manifests/v1")
	} else {
		fronts = append(fronts, alone)
	}
	for _, f := range fronts {
		got = f.wants(http.StatusTooManyRequests, nil, http.MethodGet, "/manifests/v1")
		if after := got.header.Get("Retry-After"); limit.RetryAfter != "" && after != limit.RetryAfter {
			t.Errorf("Retry-After is %q, want %q", after, limit.RetryAfter)
		}
	}
	if err := asked(t, u).Image(t.Context(), "tool:v1", nil); judge.Of(err) != judge.RateLimited {
		t.Errorf("the image check at the limit: %v", err)
	}
	newFront(t, u, other.Upstream("mirror")).wants(http.StatusOK, must(c.index.RawManifest()), http.MethodGet, "/manifests/v1")
}

// TestWrongCredentials: whatever a registry says to them, the refusal is ours.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	for _, p := range testregistry.Products() {
		if p.Options.Username == "" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			p.Options.TLS = true
			r, other, c := testregistry.New(t, p.Options), testregistry.New(t, testregistry.Options{TLS: true}), theContent(t)
			r.Push(t, p.Repository+"/tool", "v1", c.index)
			other.Push(t, "mirror/tool", "v1", c.index)
			u := r.Upstream(p.Repository)
			u.Credentials.Password = "wrong"
			newFront(t, u).wants(http.StatusBadGateway, nil, http.MethodGet, "/manifests/v1")
			newFront(t, u, other.Upstream("mirror")).wants(http.StatusOK, must(c.index.RawManifest()), http.MethodGet, "/manifests/v1")
			if err := asked(t, u).Image(t.Context(), "tool:v1", nil); judge.Of(err) != judge.Refused || err == nil {
				t.Errorf("the image check: %v", err)
			}
		})
	}
}
