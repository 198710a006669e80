package main

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/client-go/rest"
)

// upstream is a registry with TLS and a password that can be told to lie.
type upstream struct {
	access
	requests atomic.Int64
	spoil    func(w http.ResponseWriter, req *http.Request) bool // true: answered
}

func newUpstream(t *testing.T) (*upstream, string) {
	t.Helper()
	u := &upstream{}
	backend := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		u.requests.Add(1)
		if user, password, _ := req.BasicAuth(); user != "reader" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if u.spoil == nil || !u.spoil(w, req) {
			backend.ServeHTTP(w, req)
		}
	}))
	server.StartTLS()
	t.Cleanup(server.Close)
	u.access = access{
		address: strings.TrimPrefix(server.URL, "https://"), path: "/deckhouse/ee", scheme: "https",
		ca:       string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
		username: "reader", password: "secret",
	}
	img, err := random.Image(2048, 3)
	if err != nil {
		t.Fatal(err)
	}
	to, err := name.ParseReference(u.base() + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	transport, err := u.transport()
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(to, img, remote.WithTransport(transport), remote.WithAuth(u.auth())); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return u, digest.String()
}

func TestPullsEveryByte(t *testing.T) {
	t.Parallel()
	u, digest := newUpstream(t)
	for _, suffix := range []string{":v1", "@" + digest} {
		blobs, size, err := pull(t.Context(), u.access, u.base()+suffix)
		if err != nil || blobs != 3 || size < 3*2048 {
			t.Errorf("%s: %d layers, %d bytes: %v", suffix, blobs, size, err)
		}
	}
}

// TestFaultsAreFailures shows that nothing goes unseen and nothing is tried
// twice.
func TestFaultsAreFailures(t *testing.T) {
	t.Parallel()
	blob := func(req *http.Request) bool {
		return req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/")
	}
	for what, spoil := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"wrong bytes of a blob": func(w http.ResponseWriter, req *http.Request) bool {
			if blob(req) {
				_, _ = w.Write([]byte("something else")) // to a test
			}
			return blob(req)
		},
		"503 once": func() func(http.ResponseWriter, *http.Request) bool {
			var seen atomic.Bool
			return func(w http.ResponseWriter, req *http.Request) bool {
				if !strings.Contains(req.URL.Path, "/manifests/") || !seen.CompareAndSwap(false, true) {
					return false
				}
				http.Error(w, "later", http.StatusServiceUnavailable)
				return true
			}
		}(),
		"cut in the middle": func(w http.ResponseWriter, req *http.Request) bool {
			if blob(req) {
				w.Header().Set("Content-Length", "2000")
				_, _ = w.Write([]byte("half")) // to a test
			}
			return blob(req)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			u, _ := newUpstream(t)
			u.spoil = spoil
			if _, _, err := pull(t.Context(), u.access, u.base()+":v1"); err == nil {
				t.Error("it counts as done")
			}
		})
	}
	u, _ := newUpstream(t)
	wrong := u.access
	wrong.password = "other"
	if _, _, err := pull(t.Context(), wrong, wrong.base()+":v1"); err == nil || strings.Contains(err.Error(), "other") {
		t.Errorf("a wrong password: %v", err)
	}
	wrong = u.access
	wrong.ca = ""
	if _, _, err := pull(t.Context(), wrong, wrong.base()+":v1"); err == nil {
		t.Error("a stranger's certificate is trusted")
	}
}

// TestHoldsTheSecret reads, changes, and reads again after the hold.
func TestHoldsTheSecret(t *testing.T) {
	t.Parallel()
	var address atomic.Value
	address.Store("a.example.test")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/api/v1/namespaces/d8-system/secrets/deckhouse-registry" {
			http.NotFound(w, req)
			return
		}
		host, _ := address.Load().(string)
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string][]byte{ // to a test
			"address": []byte(host), "path": []byte("/p"), "scheme": []byte("https"),
			".dockerconfigjson": []byte(`{"auths":{"` + host + `":{"auth":"cmVhZGVyOnNlY3JldA=="}}}`),
		}})
	}))
	t.Cleanup(server.Close)
	s, err := newSecrets(&rest.Config{Host: server.URL}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(host string) {
		t.Helper()
		a, _, err := s.get(t.Context())
		if err != nil || a.base() != host+"/p" || a.username != "reader" || a.password != "secret" {
			t.Errorf("%+v: %v, want %s", a, err, host)
		}
	}
	expect("a.example.test")
	address.Store("b.example.test")
	expect("a.example.test")
	s.hold = 0
	expect("b.example.test")
}

func TestRefusesWhatIsNoSecret(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`nothing`, `{"data":{".dockerconfigjson":"c2VjcmV0"}}`,
		`{"data":{"address":"YQ==",".dockerconfigjson":"eyJhdXRocyI6e319"}}`,
	} {
		if _, err := parse([]byte(body)); err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	var sum Line
	for _, line := range []Line{{Reference: "a"}, {Reference: "a", Error: "x"}, {Error: "y"}, {Reference: "a"}} {
		sum.count(&line)
		sum = Line{Done: line.Done, Failed: line.Failed, Unread: line.Unread}
	}
	if sum.Done != 2 || sum.Failed != 1 || sum.Unread != 1 {
		t.Errorf("%+v", sum)
	}
}
