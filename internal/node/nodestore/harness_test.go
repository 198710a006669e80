package nodestore

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store/status"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/report"
)

// node is a Part with all that is around it: an API server with one Secret, a process, and a
// keeper of files. All of them count.
type node struct {
	t *testing.T
	*Part

	mu      sync.Mutex
	own     *v1alpha1.RegistryNode
	secret  *corev1.Secret // nil for none
	refuses int            // status of the API server
	process *status.Store  // nil for none

	folder   string
	noFolder error

	saved Place
	woken atomic.Int32
	log   []string // what was done
}

func (n *node) did(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, fmt.Sprintf(format, args...))
}

// done is what was done since it was asked the last time.
func (n *node) done() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	log := n.log
	n.log = nil
	return log
}

func newNode(t *testing.T, place Place) *node {
	t.Helper()
	n := &node{t: t, folder: "/etc/kubernetes/manifests", saved: place}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/namespaces/d8-system/secrets/registry-store", n.serveSecret)
	mux.HandleFunc("GET /status", n.serveStatus)
	mux.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { n.did("%s %s", r.Method, r.URL) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	kube, err := dynamic.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	n.Part = New(Options{
		Kube: kube, Status: server.URL + "/status", Place: place, Every: 10 * time.Millisecond,
		Save: func(p Place) { n.saved = p; n.did("save %q", p.StaticPods) },
		Open: func(folder string) (Keeper, func(), error) {
			return &files{n, folder}, func() {}, nil
		},
		StaticPods: func() (string, error) { return n.folder, n.noFolder },
		Own:        func() *v1alpha1.RegistryNode { n.mu.Lock(); defer n.mu.Unlock(); return n.own },
		Wake:       func() { n.woken.Add(1) },
		Log:        slog.New(slog.DiscardHandler),
	})
	return n
}

func (n *node) serveSecret(w http.ResponseWriter, _ *http.Request) {
	n.did("GET secret")
	n.mu.Lock()
	defer n.mu.Unlock()
	code := http.StatusOK
	var body any = n.secret
	if n.secret == nil || n.refuses != 0 {
		code = max(n.refuses, http.StatusNotFound)
		reason := metav1.StatusReasonForbidden
		if n.refuses == 0 {
			reason = metav1.StatusReasonNotFound
		}
		body = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: int32(code), Reason: reason, Message: "no"}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func (n *node) serveStatus(w http.ResponseWriter, _ *http.Request) {
	n.did("ask")
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		http.Error(w, "another program", http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(n.process)
}

// files stands for nodeservices.Keeper: what that does is tested there.
type files struct {
	*node
	folder string
}

func (f *files) Apply(c nodeservices.Config) (nodeservices.Found, error) {
	f.did("apply %q %s", f.folder, c.Pod.Version)
	if strings.Contains(string(c.Layout), "refused") {
		return nodeservices.Found{}, errors.New("/opt is left as it is: it is a link")
	}
	return f.found(c), nil
}

func (f *files) Look(c nodeservices.Config) (nodeservices.Found, error) {
	f.did("look %q", f.folder)
	return f.found(c), nil
}

func (f *files) found(c nodeservices.Config) nodeservices.Found {
	found := nodeservices.Found{State: nodeservices.Written, Request: "request of " + c.Pod.Address}
	if string(c.Certificate) != "certificate" {
		found.State = nodeservices.CertificateMissing
	}
	return found
}

func (f *files) Remove() error { f.did("remove %q", f.folder); return nil }

func (f *files) RemoveManifest() error { f.did("stop %q", f.folder); return nil }

// someSpec is a store that may run.
func someSpec() *v1alpha1.StoreSpec {
	return &v1alpha1.StoreSpec{
		Image: "registry.example.com/d8/registry:v1", Version: "v1", Approved: "v1", Port: 5001, Path: "/opt/deckhouse/registry",
		Addresses: []string{"10.0.0.1", "fd00::1"}, TTL: "1h", Certificate: "certificate",
	}
}

func someSecret() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretStore, ResourceVersion: "7"},
		Data: map[string][]byte{
			"layout": []byte("a layout"), "users": []byte("users"), "pins": []byte("pins"),
			"stores-endpoints": []byte(`["10.0.0.1:5001","10.0.0.2:5001"]`), "ca.crt": []byte("CA"),
		},
	}
}

func serving() *status.Store {
	return &status.Store{Ready: true, ConfigVersion: "v1", Generation: 5, Stored: &status.Disk{Pins: 157, PinsHere: 150}}
}

// pass is one pass with this spec, and what is reported of it. The report is that of the next
// one.
func (n *node) pass(spec *v1alpha1.StoreSpec, leave bool) (*v1alpha1.StoreStatus, bool) {
	n.t.Helper()
	n.mu.Lock()
	var before *v1alpha1.StoreStatus
	if n.own != nil {
		before = n.own.Status.Store
	}
	own := &v1alpha1.RegistryNode{Spec: v1alpha1.RegistryNodeSpec{Store: spec, Leave: leave}, Status: v1alpha1.RegistryNodeStatus{Store: before}}
	n.own = own
	n.mu.Unlock()
	r := &report.Report{Own: own}
	n.Converge(n.t.Context(), r)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.own = own.DeepCopy()
	n.own.Status = r.Status
	return r.Status.Store, r.Retry
}
