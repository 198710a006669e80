package controller

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// simStore is the store of a node with what its agent does for it: it has a key, serves by
// what Secret registry-store says, and passes everything on.
type simStore struct {
	node, key string
	at        string // where it listens
	table     *routes.Table
	leaf      pki.Reloader
	users     atomic.Pointer[regauth.Users]
	started   int         // processes
	holds     atomic.Bool // it learns nothing new
	alone     atomic.Bool // it has no agent any more
	noStatic  bool        // the kubelet takes no static pods: a DaemonSet runs it
	version   string
}

// withStores makes nodes with addresses, each with a store that runs when it is asked for.
func (c *testbed) withStores() map[string]*simStore {
	c.t.Helper()
	c.Node("store-b", false)
	c.Node("store-c", false)
	byNode, dial := map[string]*simStore{}, map[string]string{}
	for name, address := range map[string]string{"master": "10.0.0.1", "store-b": "10.0.0.2", "store-c": "10.0.0.3"} {
		node := &corev1.Node{}
		if err := c.Get(c.t.Context(), client.ObjectKey{Name: name}, node); err != nil {
			c.t.Fatal(err)
		}
		if node.Labels[v1alpha1.LabelStore] = ""; name == "master" {
			delete(node.Labels, v1alpha1.LabelStore) // of the control plane
		}
		if err := c.Update(c.t.Context(), node); err != nil {
			c.t.Fatal(err)
		}
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		if err := c.Status().Update(c.t.Context(), node); err != nil {
			c.t.Fatal(err)
		}
		s := &simStore{node: name, table: routes.NewTable(nil), noStatic: name == "store-c"}
		var err error
		if s.key, err = pki.NewKey(); err != nil {
			c.t.Fatal(err)
		}
		handler := regauth.Require(s.users.Load, proxy.New(s.table, proxy.Config{Log: slog.New(slog.DiscardHandler), DefaultHost: layout.Fixed().Host}))
		server := httptest.NewUnstartedServer(handler)
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.Listener = tls.NewListener(server.Listener, &tls.Config{GetCertificate: s.leaf.GetCertificate, MinVersion: tls.VersionTLS12})
		server.Start()
		s.at = server.Listener.Addr().String()
		c.t.Cleanup(s.table.Close)
		c.t.Cleanup(server.Close)
		byNode[name], dial[address+":5001"] = s, s.at
	}
	c.cfg.StoresAt = dial
	c.cfg.ProxyDial = c.serviceOf(byNode["master"].at)
	installation.Background(c.t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			for _, s := range byNode {
				err := s.work(ctx, c)
				if err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
					c.t.Errorf("store of %s: %v", s.node, err)
				}
			}
			installation.Pause(15 * time.Millisecond)
		}
		return nil
	})
	return byNode
}

// serviceOf is where Service registry is: a store is behind it, or else the in-cluster proxy.
func (c *testbed) serviceOf(store string) string {
	c.t.Helper()
	listener, err := new(net.ListenConfig).Listen(c.t.Context(), "tcp", loopback.Address(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	installation.Background(c.t, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
		var all sync.WaitGroup
		defer all.Wait()
		for {
			from, err := listener.Accept()
			if err != nil {
				return nil //nolint:nilerr // closed
			}
			all.Go(func() {
				defer func() { _ = from.Close() }()
				to := c.sim.gatewayAddress
				if c.behindService(ctx) == v1alpha1.TypeStore {
					to = store
				}
				pod, err := new(net.Dialer).DialContext(ctx, "tcp", to)
				if err != nil {
					return
				}
				defer context.AfterFunc(ctx, func() { _, _ = from.Close(), pod.Close() })()
				all.Go(func() { _, _ = io.Copy(pod, from); _ = pod.Close() })
				_, _ = io.Copy(from, pod)
			})
		}
	})
	return listener.Addr().String()
}

// behindService is the label type of the pods behind Service registry.
func (c *testbed) behindService(ctx context.Context) string {
	var service corev1.Service
	if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.ServiceRegistry}, &service); err != nil {
		return err.Error()
	}
	return service.Spec.Selector[v1alpha1.LabelType]
}

// work is a pass of the agent.
func (s *simStore) work(ctx context.Context, c *testbed) error {
	if s.alone.Load() {
		return nil
	}
	var rn v1alpha1.RegistryNode
	if err := c.Get(ctx, client.ObjectKey{Name: s.node}, &rn); err != nil {
		return err
	}
	want := rn.DeepCopy()
	spec := rn.Spec.Store
	switch {
	case spec == nil:
		want.Status.Store, s.version = nil, ""
	case rn.Status.Store == nil:
		request, err := pki.Request(s.key, spec.Addresses)
		if err != nil {
			return err
		}
		want.Status.Store = &v1alpha1.StoreStatus{State: v1alpha1.StoreWaiting, Request: request, DaemonSet: s.noStatic}
	case s.holds.Load():
	case s.noStatic && s.version != spec.Approved && c.storeVersion(ctx, s.node) != spec.Approved: // no pod of it yet
	case spec.Certificate != "" && (spec.Approved == spec.Version || s.version != ""):
		if err := s.serve(ctx, c, want); err != nil {
			return err
		}
	}
	if equality.Semantic.DeepEqual(want.Status, rn.Status) {
		return nil
	}
	return c.Status().Update(ctx, want)
}

func (s *simStore) serve(ctx context.Context, c *testbed, rn *v1alpha1.RegistryNode) error {
	var secret corev1.Secret
	if err := c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretStore}, &secret); err != nil {
		return err
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyProxyLayout])
	if err != nil {
		return err
	}
	var list []regauth.User
	if err := yaml.Unmarshal(secret.Data[v1alpha1.KeyProxyUsers], &list); err != nil {
		return err
	}
	users, err := regauth.NewUsers(list)
	if err != nil {
		return err
	}
	if err := s.leaf.Set([]byte(rn.Spec.Store.Certificate), []byte(s.key)); err != nil {
		return err
	}
	if s.users.Store(users); s.table.Generation() != l.Generation {
		if err := s.table.Swap(l); err != nil {
			return err
		}
	}
	if spec := rn.Spec.Store; spec.Approved == spec.Version && s.version != spec.Version {
		s.version = spec.Version
		s.started++
	}
	pins := int64(strings.Count(string(secret.Data[v1alpha1.KeyStorePins]), "\n"))
	status := rn.Status.Store
	status.Identity = regauth.Fingerprint(secret.Data[v1alpha1.KeyProxyUsers], []byte(rn.Spec.Store.Certificate))
	status.State, status.Version, status.Generation, status.Cached, status.Wanted = v1alpha1.StoreServing, s.version, l.Generation, pins, pins
	return nil
}

// proxySettings are those of mode Proxy for an upstream.
func proxySettings(u upstream.Upstream) string {
	return strings.NewReplacer(`"mode":"Direct"`, `"mode":"Proxy"`, `"direct":`, `"proxy":`).Replace(settingsOf(u))
}

// TestModeProxy goes from Unmanaged on A to Proxy on A, to Proxy on B without A, and by way of
// Direct back to Unmanaged, where nothing is left of it.
func TestModeProxy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.withKubelets()
	stores := c.withStores()
	c.begin()
	a, b := c.upstreamA(), c.upstreamB()

	c.ask(proxySettings(a))
	v := c.reaches(switchover.ModeProxy, a)
	c.wantConditions(v, switchover.ModeProxy, a.Host)
	c.wantImages(layout.Fixed())
	if got := c.layout().Stores; !slices.Equal(got.Endpoints, []string{"10.0.0.1:5001", "10.0.0.2:5001", "10.0.0.3:5001"}) || got.CA == "" || got.Credentials.IsZero() {
		t.Errorf("nodes ask %v", got.Endpoints)
	}
	if is := c.behindService(t.Context()); is != "node-services" {
		t.Errorf("behind Service registry is %s", is)
	}
	if !c.gone(&appsv1.Deployment{}, v1alpha1.DeploymentProxy) || !c.gone(&corev1.Secret{}, v1alpha1.SecretProxy) {
		t.Error("there is an in-cluster proxy")
	}
	if who := c.mayReadStores(); len(who) != 1 || who[0].Name != v1alpha1.DaemonSetAgent {
		t.Errorf("Secret registry-store may be read by %v", who)
	}
	if pins := string(c.secret(v1alpha1.SecretStore).Data[v1alpha1.KeyStorePins]); strings.Count(pins, "\n") < distinctImages || !strings.HasPrefix(pins, ":module\n") {
		t.Errorf("pins are %q", pins)
	}

	for name, s := range stores {
		if by := c.storeVersion(t.Context(), name); (by != "") != s.noStatic {
			t.Errorf("the DaemonSet of %s is of version %q", name, by)
		}
	}

	c.ask(proxySettings(b))
	c.reaches(switchover.ModeProxy, b)
	c.a.Stop()
	for name, s := range stores {
		if s.started != 1 {
			t.Errorf("the store of %s was started %d times", name, s.started)
		}
	}
	if own := c.daemonSet(v1alpha1.Namespace, v1alpha1.DaemonSetAgent).Spec.Template.Spec.Containers[0].Image; own != b.Base()+":module" {
		t.Errorf("the agents' template names %s", own)
	}

	c.switchTo(b)
	if got := c.layout(); !got.Stores.IsZero() || got.Fallback.Host == "" {
		t.Errorf("nodes ask %v", got.Stores.Endpoints)
	}
	c.storesAreGone()
	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, b)
	c.eventually("the Service is gone", func() bool { return c.gone(&corev1.Service{}, v1alpha1.ServiceRegistry) })
}

// TestRotationInProxy: CA and passwords are replaced where stores serve, and nothing is started
// anew for it but who reads its registry at the start. One that is behind is waited for by name.
func TestRotationInProxy(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.cfg.Rotations = state.Rotations{Idle: 300 * time.Millisecond, Seen: time.Hour}
	c.withKubelets()
	stores := c.withStores()
	c.begin()
	c.ask(proxySettings(c.upstreamA()))
	before := c.reaches(switchover.ModeProxy, c.upstreamA())
	stores["store-b"].holds.Store(true)
	c.rotate("1", v1alpha1.SecretPKI, state.UserSecretPrefix+state.UserClient, state.UserSecretPrefix+state.UserNode)
	c.told("Rotation of Secret registry-user-ro waits for the store of node store-b, which does not serve what is stored")
	stores["store-b"].holds.Store(false)
	after := c.until("all rotations have ended", func(v view) bool {
		return v.doc.PKI.CA != before.doc.PKI.CA && len(v.doc.RotationsUnderWay()) == 0
	})
	for _, user := range []string{state.UserClient, state.UserNode} {
		was, _ := before.doc.User(user)
		if is, _ := after.doc.User(user); is.Password == was.Password || is.Previous != "" {
			t.Errorf("user %s: the password is the same: %v, and the old one is good: %v", user, is.Password == was.Password, is.Previous != "")
		}
	}
	c.eventually("nodes trust the new CA alone, and stores serve with it", func() bool {
		return c.layout().Stores.CA == after.doc.PKI.CA.Cert && string(c.secret(v1alpha1.SecretStore).Data[v1alpha1.KeyStoreCA]) == after.doc.PKI.CA.Cert
	})
	for name, s := range stores {
		if s.started != 1 {
			t.Errorf("the store of %s was started %d times", name, s.started)
		}
	}
	if !c.state().ready(switchover.ModeProxy) {
		t.Error("a rotation makes Ready False")
	}
	c.ask(unmanaged) // the API server is for other tests too
	c.reaches(switchover.Unmanaged, c.upstreamA())
	c.storesAreGone()
}

// TestFromProxyToUnmanaged: there is no in-cluster proxy that could stand in for the stores.
func TestFromProxyToUnmanaged(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.withKubelets()
	c.withStores()
	c.begin()
	a := c.upstreamA()
	c.ask(proxySettings(a))
	c.reaches(switchover.ModeProxy, a)
	c.ask(unmanaged)
	c.reaches(switchover.Unmanaged, a)
	c.storesAreGone()
	if c.wantImages(layout.NameOf(a)); !c.gone(&corev1.Service{}, v1alpha1.ServiceRegistry) {
		t.Error("Service registry is there")
	}
}

// storesAreGone: a cluster that is not in mode Proxy has nothing of it.
func (c *testbed) storesAreGone() {
	c.t.Helper()
	c.eventually("nothing is left of stores", func() bool {
		var nodes v1alpha1.RegistryNodeList
		if err := c.List(c.t.Context(), &nodes); err != nil {
			c.t.Fatal(err)
		}
		some := slices.ContainsFunc(nodes.Items, func(rn v1alpha1.RegistryNode) bool { return rn.Spec.Store != nil || rn.Status.Store != nil })
		for _, name := range v1alpha1.DaemonSetsOfStores() {
			some = some || !c.gone(&appsv1.DaemonSet{}, name)
		}
		return !some && c.gone(&corev1.Secret{}, v1alpha1.SecretStore) && len(c.mayReadStores()) == 0
	})
}

// mayReadStores are those to whom the controller gave the right to read what stores serve by.
func (c *testbed) mayReadStores() []rbacv1.Subject {
	c.t.Helper()
	var binding rbacv1.RoleBinding
	if err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.RoleStore}, &binding); client.IgnoreNotFound(err) != nil {
		c.t.Fatal(err)
	}
	return binding.Subjects
}
