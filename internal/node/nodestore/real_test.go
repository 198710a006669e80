package nodestore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/nodeservices"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

// Tests run in a network of their own: a store has fixed ports.
func TestMain(m *testing.M) {
	os.Exit(containerdtest.Isolate(func() int { return server.Main(m) }))
}

// ip is the address of that network that is not loopback.
const ip = "192.0.2.1"

// realNode is a node with files, a kubelet, the real program and a real API server.
type realNode struct {
	t      *testing.T
	api    *apiserver.API
	root   string
	place  Place // on disk
	ca     pki.KeyPair
	secret *corev1.Secret
	kube   *rest.Config // the agent's
	stop   func()       // the agent
	// noStatic says that the kubelet takes no static pods.
	noStatic atomic.Bool
	*kubelet
}

func (n *realNode) staticPods() (string, error) {
	if n.noStatic.Load() {
		return "", nodeservices.ErrNoStaticPods
	}
	return "/etc/kubernetes/manifests", nil
}

func newRealNode(t *testing.T) *realNode {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	n := &realNode{t: t, api: server.Start(t), root: t.TempDir()}
	n.kube = n.api.Config()
	n.kubelet = startKubelet(t, n.root)
	if err := os.Chmod(n.root, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.ca, err = pki.NewCA(time.Now(), pki.ServiceNames("cluster.local")); err != nil {
		t.Fatal(err)
	}
	own := &v1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: "node"}}
	n.must(n.api.Client().Create(t.Context(), own))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		n.must(n.api.Client().Delete(ctx, own))
		n.must(client.IgnoreNotFound(n.api.Client().Delete(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretStore}})))
	})
	return n
}

func (n *realNode) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// startAgent runs that part of an agent, which knows what is on disk.
func (n *realNode) startAgent() {
	n.t.Helper()
	kube, err := dynamic.NewForConfig(n.kube)
	n.must(err)
	log := slog.New(slog.NewTextHandler(n.t.Output(), nil))
	reporter := report.New(report.Options{Kube: kube, Node: "node", Log: log, Identity: report.Identity{BootID: "boot"}})
	wake := make(chan struct{}, 1)
	wakeUp := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	part := New(Options{
		Kube: kube, Status: "http://127.0.0.1:5002/status", Place: n.place, Save: func(p Place) { n.place = p },
		Open: func(folder string) (Keeper, func(), error) {
			root, err := durable.OpenDir(n.root)
			if err != nil {
				return nil, nil, err
			}
			return nodeservices.New(root, folder), func() { _ = root.Close() }, nil
		},
		StaticPods: n.staticPods,
		Own:        reporter.Latest, Wake: wakeUp, Log: log, Every: 100 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{}, 3)
	go func() { reporter.Follow(ctx, wakeUp); done <- struct{}{} }()
	go func() { part.Run(ctx); done <- struct{}{} }()
	go func() {
		defer func() { done <- struct{}{} }()
		for ctx.Err() == nil {
			r := reporter.Begin()
			part.Converge(ctx, r)
			reporter.Finish(ctx, r)
			again := time.Minute
			if r.Retry {
				again = 100 * time.Millisecond
			}
			select {
			case <-wake:
			case <-time.After(again):
			case <-ctx.Done():
			}
		}
	}()
	n.stop = func() {
		cancel()
		for range cap(done) {
			<-done
		}
	}
}

// order changes spec.store.
func (n *realNode) order(change func(own *v1alpha1.RegistryNode)) {
	n.t.Helper()
	own := n.own()
	base := own.DeepCopy()
	change(own)
	n.must(n.api.Client().Patch(n.t.Context(), own, client.MergeFrom(base)))
}

func (n *realNode) own() *v1alpha1.RegistryNode {
	n.t.Helper()
	var own v1alpha1.RegistryNode
	n.must(n.api.Client().Get(n.t.Context(), client.ObjectKey{Name: "node"}, &own))
	return &own
}

// until waits for a report, none of which is a store that is not there.
func (n *realNode) until(what string, good func(s v1alpha1.StoreStatus) bool) v1alpha1.StoreStatus {
	n.t.Helper()
	var last v1alpha1.StoreStatus
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		last = v1alpha1.StoreStatus{}
		if s := n.own().Status.Store; s != nil {
			last = *s
		}
		if good(last) {
			return last
		}
	}
	n.t.Fatalf("timed out waiting for %s; last report %+v", what, last)
	return last
}

// publish writes the Secret.
func (n *realNode) publish(generation int64, r *testregistry.Registry) {
	n.t.Helper()
	data := fronttest.Content(n.t, generation, r.Upstream("team"))
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretStore},
		Data: map[string][]byte{
			"layout": data["layout"], "users": data["users"], "stores-endpoints": fmt.Appendf(nil, "[%q]", ip+":5001"), "ca.crt": []byte(n.ca.Cert),
		},
	}
	if n.secret == nil {
		n.must(n.api.Client().Create(n.t.Context(), secret))
	} else {
		secret.ResourceVersion = n.secret.ResourceVersion
		n.must(n.api.Client().Update(n.t.Context(), secret))
	}
	n.secret = secret
}

// sign is what a controller signs for a request, for a day.
func (n *realNode) sign(request string) string {
	n.t.Helper()
	text, err := pki.Answer(time.Now(), n.ca, request, []string{"registry.d8-system.svc", ip})
	n.must(err)
	return text
}

// pull is a manifest by way of the store, and the certificate that it showed.
func (n *realNode) pull() (status int, certificate *x509.Certificate) {
	n.t.Helper()
	return n.pullAs("node", fronttest.NodePassword)
}

func (n *realNode) pullAs(user, password string) (status int, certificate *x509.Certificate) {
	n.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(n.ca.Cert))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "https://"+ip+":5001/v2/system/deckhouse/app/manifests/v1", nil)
	n.must(err)
	req.SetBasicAuth(user, password)
	resp, err := transport.RoundTrip(req)
	n.must(err)
	n.must(resp.Body.Close())
	return resp.StatusCode, resp.TLS.PeerCertificates[0]
}

// files are all files of the host that are no folders.
func (n *realNode) files() string {
	n.t.Helper()
	var all []string
	n.must(filepath.WalkDir(n.root, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, strings.TrimPrefix(name, n.root))
		}
		return err
	}))
	return strings.Join(all, " ")
}

// TestARealStore is the life of a store on a node: a request, a certificate, approval, pulls,
// another layout, another version, another agent, another certificate, and its end.
func TestARealStore(t *testing.T) {
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "up", Password: "secret"})
	r.PushRandom(t, "team/app", "v1", 1, 256)
	n := newRealNode(t)
	n.startAgent()
	n.order(func(o *v1alpha1.RegistryNode) { o.Spec.NodeGroup = "seen" })
	spec := &v1alpha1.StoreSpec{
		Image: "registry.example.com/d8/registry:v1", Version: "v1", Port: 5001, Path: "/opt/deckhouse/registry", Addresses: []string{ip}, Quota: 1 << 30, Floor: 1,
	}
	store := func(change func(s *v1alpha1.StoreSpec)) {
		n.order(func(o *v1alpha1.RegistryNode) { change(o.Spec.Store) })
	}
	n.order(func(o *v1alpha1.RegistryNode) { o.Spec.Store = spec })
	n.until("what it serves by", func(s v1alpha1.StoreStatus) bool { return strings.Contains(s.Message, "no Secret") })
	if files := n.files(); files != "" {
		t.Errorf("written before there is anything to serve by: %s", files)
	}
	n.publish(1, r)
	request := n.until("a request", func(s v1alpha1.StoreStatus) bool { return s.Request != "" && s.State == v1alpha1.StoreWaiting }).Request

	other, err := pki.NewKey()
	n.must(err)
	foreign, err := pki.Request(other, nil)
	n.must(err)
	store(func(s *v1alpha1.StoreSpec) { s.Certificate, s.Approved = n.sign(foreign), "v1" })
	<-time.After(time.Second)
	n.until("a certificate for its own key", func(s v1alpha1.StoreStatus) bool {
		return strings.Contains(s.Message, "certificate") && s.Request == request
	})
	if files := n.files(); files != "/etc/kubernetes/registry/tls.key" {
		t.Errorf("written with another one's certificate: %s", files)
	}

	store(func(s *v1alpha1.StoreSpec) { s.Certificate, s.Approved = n.sign(request), "" })
	n.until("approval", func(s v1alpha1.StoreStatus) bool { return strings.Contains(s.Message, "approval") })
	if n.pid.Load() != 0 {
		t.Error("it runs without approval")
	}
	store(func(s *v1alpha1.StoreSpec) { s.Approved = "v1" })
	n.until("a store that serves", func(s v1alpha1.StoreStatus) bool {
		return s.State == v1alpha1.StoreServing && s.Version == "v1" && s.Generation == 1 && s.Message == "" && s.Endpoint == ip+":5001"
	})
	first := n.pid.Load()
	code, was := n.pull()
	if code != http.StatusOK {
		t.Errorf("a pull: %d", code)
	}

	n.publish(2, r)
	n.until("generation 2", func(s v1alpha1.StoreStatus) bool { return s.Generation == 2 && s.State == v1alpha1.StoreServing })
	store(func(s *v1alpha1.StoreSpec) { s.Version, s.Quota = "v2", 2<<30 })
	n.until("approval of v2", func(s v1alpha1.StoreStatus) bool {
		return strings.Contains(s.Message, "v2 waits for approval") && s.Version == "v1" && s.State == v1alpha1.StoreServing
	})
	n.stop()
	n.startAgent()
	store(func(s *v1alpha1.StoreSpec) { s.Certificate = n.sign(request) })
	for deadline := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) {
		if _, is := n.pull(); !is.Equal(was) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the certificate is not replaced")
		}
	}
	if n.pid.Load() != first {
		t.Error("another layout, certificate or agent restarted the store")
	}
	store(func(s *v1alpha1.StoreSpec) { s.Approved = "v2" })
	n.until("version 2", func(s v1alpha1.StoreStatus) bool {
		return s.Version == "v2" && s.State == v1alpha1.StoreServing && s.Message == ""
	})
	if code, _ := n.pull(); n.pid.Load() == first || code != http.StatusOK {
		t.Errorf("the process of before; a pull: %d", code)
	}

	n.order(func(o *v1alpha1.RegistryNode) { o.Spec.Store = nil })
	n.until("its end", func(s v1alpha1.StoreStatus) bool { return s == v1alpha1.StoreStatus{} })
	n.ended()
	if files := n.files(); n.pid.Load() != 0 || strings.Contains(files, "/etc/") || !strings.Contains(files, "/opt/deckhouse/registry/blobs/") || (n.place != Place{}) {
		t.Errorf("left: %s, process %d", files, n.pid.Load())
	}
	n.stop()
}

// ended waits for the process, which answers nobody a moment before it has ended.
func (n *realNode) ended() {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); n.pid.Load() != 0; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("process %d goes on", n.pid.Load())
		}
	}
}
