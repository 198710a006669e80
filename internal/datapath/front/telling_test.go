package front

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// TestTelling: nodes learn what is known of the very target that they ask about, and nobody else does.
func TestTelling(t *testing.T) {
	t.Parallel()
	old, target := someUpstream, someUpstream
	old.Host, target.Credentials = "old.example.com", upstream.Credentials{Username: "u", Password: "p"}
	l := layout.Layout{
		Schema: layout.Schema, Generation: 1, Mode: "Proxy", ActiveMode: "Proxy", Active: old, Target: target, Probe: ":module",
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(old), layout.NameOf(target)}, []upstream.Upstream{old, target}),
	}
	nameless := l // it is the target, and its name leads nowhere
	nameless.Routes = layout.Cross([]layout.Name{layout.Fixed()}, []upstream.Upstream{old, target})
	proofOf := func(u upstream.Upstream, probe string) string {
		return routes.ProofOf(layout.Layout{Target: u, Probe: probe})
	}
	renewed, elsewhere := target, target
	renewed.Credentials.Password, elsewhere.Path = "q", "other"
	of := proofOf(target, ":module")
	for name, tc := range map[string]struct {
		proof          targetProof
		user, password string
		asks, told     string
		nameless       bool
	}{
		"not proved yet":          {targetProof{}, "node", fronttest.NodePassword, of, oci.TargetKnown, false},
		"proved":                  {targetProof{of: of}, "node", fronttest.NodePassword, of, oci.TargetProved, false},
		"failed":                  {targetProof{of: of, err: errors.New("a web page")}, "node", fronttest.NodePassword, of, oci.TargetKnown, false},
		"by another image":        {targetProof{of: of}, "node", fronttest.NodePassword, proofOf(target, ":newer"), oci.TargetKnown, false},
		"the one before":          {targetProof{of: of}, "node", fronttest.NodePassword, proofOf(old, ":module"), oci.TargetKnown, false},
		"with other credentials":  {targetProof{of: of}, "node", fronttest.NodePassword, proofOf(renewed, ":module"), "", false},
		"another path":            {targetProof{of: of}, "node", fronttest.NodePassword, proofOf(elsewhere, ":module"), "", false},
		"nonsense":                {targetProof{of: of}, "node", fronttest.NodePassword, " ", "", false},
		"nobody asks":             {targetProof{of: of}, "node", fronttest.NodePassword, "", "", false},
		"a client of the cluster": {targetProof{of: of}, "ro", fronttest.ClientPassword, of, "", false},
		"its name leads nowhere":  {targetProof{of: of}, "node", fronttest.NodePassword, of, "", true},
		"a wrong password":        {targetProof{of: of}, "node", "wrong", of, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loaded := newTestLoaded(t)
			data := fronttest.Content(t, 1, someUpstream)
			var err error
			served := l
			if tc.nameless {
				served = nameless
			}
			if data[v1alpha1.KeyProxyLayout], err = layout.Encode(served); err != nil {
				t.Fatal(err)
			}
			if s := loaded.Apply(Content{Data: data}); s.Generation != 1 {
				t.Fatalf("%+v", s)
			}
			loaded.proof = tc.proof
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v2/", nil)
			r.SetBasicAuth(tc.user, tc.password)
			if tc.asks != "" {
				r.Header.Set(oci.HeaderTarget, tc.asks)
			}
			loaded.require(loaded.telling(http.NotFoundHandler())).ServeHTTP(w, r)
			if got := w.Header().Get(oci.HeaderTarget); got != tc.told {
				t.Errorf("%q, want %q", got, tc.told)
			}
		})
	}
}
