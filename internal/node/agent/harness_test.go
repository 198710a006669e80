package agent_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/agenttest"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

// Tests run in a network and mount namespace of their own.
func TestMain(m *testing.M) {
	os.Exit(containerdtest.Isolate(func() int { return server.Main(m) }))
}

const fixedHost = "registry.d8-system.svc:5001"

// world is one node: a real containerd, both halves of the agent, a real API
// server with the node's RegistryNode and the layout's Secret.
type world struct {
	t          *testing.T
	api        *apiserver.API
	kube       *rest.Config // the agent's
	namespace  string
	name       string
	uid        string
	containerd *containerdtest.Containerd
	cri        *containerd.Client
	node       agent.Config
	serve      serve.Config
	secret     *corev1.Secret
	generation int64
	stopNode   func()
	stopServe  func()
}

// newWorld prepares a node of today, with a config_path of its own, whose agent
// is not started yet.
func newWorld(t *testing.T) *world {
	t.Helper()
	return worldOn(t, containerdtest.New(t))
}

// worldOn prepares a node with that containerd, which it starts.
func worldOn(t *testing.T, c *containerdtest.Containerd) *world {
	t.Helper()
	api := server.Start(t)
	n := agenttest.New(t, api, c)
	n.Config.Service = &service{containerd: c}
	return &world{
		t: t, api: api, kube: api.Config(), namespace: n.Serving.Namespace, containerd: c, cri: n.CRI,
		name: n.Name, uid: string(n.Own().OwnerReferences[0].UID), serve: n.Serving, node: n.Config,
	}
}

// service is the systemd of the test's node.
type service struct {
	containerd *containerdtest.Containerd
	refuses    error
}

func (s *service) Check(context.Context) error { return s.refuses }

func (s *service) Restart(ctx context.Context) error { return s.containerd.RestartService(ctx) }

// approve lets the node do the restart that it waits for, as the controller
// does. Before that, while the node waits, it calls the functions.
func (w *world) approve(waiting ...func()) registryv1alpha1.RegistryNodeStatus {
	w.t.Helper()
	s := w.until("a restart that waits", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Restart != nil && s.Restart.Phase == registryv1alpha1.RestartWaiting
	})
	for _, do := range waiting {
		do()
	}
	w.order(func(spec *registryv1alpha1.RegistryNodeSpec) { spec.ApprovedRestart = s.Restart.ID })
	return s
}

// order changes the spec of the own RegistryNode.
func (w *world) order(change func(*registryv1alpha1.RegistryNodeSpec)) {
	w.t.Helper()
	var own registryv1alpha1.RegistryNode
	w.must(w.api.Client().Get(w.t.Context(), client.ObjectKey{Name: w.name}, &own))
	base := own.DeepCopy()
	change(&own.Spec)
	w.must(w.api.Client().Patch(w.t.Context(), &own, client.MergeFrom(base)))
}

// asAgent gives the agent the rights and the identity that it has in a cluster,
// where there is one layout for all: one test per package can have it.
func (w *world) asAgent() {
	w.t.Helper()
	w.namespace = registryv1alpha1.Namespace
	w.serve.Namespace = w.namespace
	w.kube = w.api.As(w.t, apiserver.Process{ServiceAccount: "registry-agent", Node: w.name})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() {
	w.t.Helper()
	w.startServe()
	w.startNode()
}

func (w *world) startServe() {
	w.serve.Kube = w.kube
	w.stopServe = agenttest.Background(w.t, "serve", func(ctx context.Context, log *slog.Logger) error { return serve.Run(ctx, w.serve, log) })
}

func (w *world) startNode() {
	w.node.Kube = w.kube
	w.stopNode = agenttest.Background(w.t, "node", func(ctx context.Context, log *slog.Logger) error { return agent.Run(ctx, w.node, log) })
}

// publish writes the next generation as the controller does.
func (w *world) publish(target upstream.Upstream, names []layout.Name, upstreams ...upstream.Upstream) {
	w.t.Helper()
	w.generation++
	upstreams = append([]upstream.Upstream{target}, upstreams...)
	l := layout.Layout{
		Schema: layout.Schema, Generation: w.generation, Mode: "Direct", Active: target, Target: target,
		Routes: layout.Cross(names, upstreams),
	}
	w.publishLayout(l)
}

func (w *world) publishLayout(l layout.Layout) {
	w.t.Helper()
	data, err := layout.Encode(l)
	w.must(err)
	if w.secret == nil {
		w.secret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: registryv1alpha1.SecretAgent},
			Data:       map[string][]byte{"config": data},
		}
		w.must(w.api.Client().Create(w.t.Context(), w.secret))
		return
	}
	w.secret.Data["config"] = data
	w.must(w.api.Client().Update(w.t.Context(), w.secret))
}

// until waits for a report that is as wanted.
func (w *world) until(what string, good func(registryv1alpha1.RegistryNodeStatus) bool) registryv1alpha1.RegistryNodeStatus {
	w.t.Helper()
	var last registryv1alpha1.RegistryNodeStatus
	deadline := time.Now().Add(40 * time.Second)
	for time.Now().Before(deadline) {
		var n registryv1alpha1.RegistryNode
		w.must(w.api.Client().Get(w.t.Context(), client.ObjectKey{Name: w.name}, &n))
		if last = n.Status; good(last) {
			return last
		}
		<-time.After(20 * time.Millisecond)
	}
	w.t.Fatalf("timed out waiting for %s; last report %+v", what, last)
	return last
}

func (w *world) reported() registryv1alpha1.RegistryNodeStatus {
	w.t.Helper()
	return w.until(fmt.Sprintf("generation %d", w.generation), func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == w.generation
	})
}

func (w *world) eventually(what string, good func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !good() {
		if time.Now().After(deadline) {
			w.t.Fatal("timed out waiting for", what)
		}
		<-time.After(500 * time.Millisecond) // longer than the quiet time: asking is a use
	}
}

// routed reports whether the serving half has a route for a name, asked as
// containerd asks.
func (w *world) routed(n layout.Name) bool {
	w.t.Helper()
	folder, err := handoff.Open(w.node.StateDir)
	w.must(err)
	ca, err := folder.CA()
	w.must(err)
	token, err := folder.Token()
	w.must(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodHead, "https://"+w.node.Listen+"/v2/"+n.Path+"/app/manifests/v1?ns="+n.Host, nil)
	w.must(err)
	req.Header.Set(hostsdir.TokenHeader, token)
	resp, err := transport.RoundTrip(req)
	w.must(err)
	w.must(resp.Body.Close())
	return resp.StatusCode != http.StatusNotFound
}

// pull is a first attempt of a reference that containerd does not have.
func (w *world) pull(ref string) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	if err := w.cri.RemoveImage(ctx, ref); err != nil {
		return err
	}
	_, err := w.cri.PullImage(ctx, ref)
	return err
}

// registry is a TLS registry with a private CA and credentials, which has
// PATH/app:v1 in it.
func registry(t *testing.T, path string) (*testregistry.Registry, upstream.Upstream) {
	t.Helper()
	r := testregistry.New(t, testregistry.Options{TLS: true, Username: "user", Password: "password"})
	r.PushRandom(t, path+"/app", "v1", 1, 256)
	return r, r.Upstream(path)
}
