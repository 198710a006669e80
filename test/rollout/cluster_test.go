package rollout

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/kubelet"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

var server apiserver.Server

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(server.Main(m))
}

const (
	// stepTimeout is for one step of the story; a healthy one takes a fraction.
	stepTimeout = 60 * time.Second
	// leaveBroken is how long what was broken before is waited for.
	leaveBroken = 3 * time.Second

	platform = "d8-monitoring"
	tenant   = "mine"
	ending   = "d8-ending"
	lost     = "lost" // the node that nobody hears of

	pathA = "deckhouse/ee"
	pathB = "mirror/d8"
)

// cluster is a real control plane with stand-ins for kubelets and agents.
type cluster struct {
	t *testing.T
	*installation.Cluster
	watch    client.WithWatch
	a, b     *testregistry.Registry
	image    v1.Image // the one image of everything
	kubelets *kubelets
	from     layout.Name // what references start with before the switch

	unsettled string // what the platform still waits for
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	api := server.Start(t)
	apiserver.StartControllers(t, api)
	watching, err := client.NewWithWatch(api.Config(), client.Options{Scheme: api.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, Cluster: installation.New(t, watching, stepTimeout), watch: watching}
	c.Why = c.unready
	c.a = testregistry.New(t, testregistry.Options{TLS: true, Username: "license-token", Password: "key-of-a"})
	c.b = testregistry.New(t, testregistry.Options{TLS: true, Bearer: true, Username: "robot", Password: "password-of-b"})
	c.image = c.a.PushRandom(t, pathA, "v1", 1, 64)
	c.b.Push(t, pathB, "v1", c.image)
	c.from = layout.NameOf(c.a.Upstream(pathA))
	c.Namespace(platform, map[string]string{"heritage": "deckhouse"})
	c.Namespace(tenant, nil)
	c.Namespace(ending, map[string]string{"heritage": "deckhouse"})
	for _, name := range []string{"master", "w1", "w2", lost} {
		c.node(name)
	}
	c.RegistrySecret(v1alpha1.Namespace, c.a.Upstream(pathA))
	proxy := loopback.Address(t)
	c.kubelets = startKubelets(t, api, watching, proxy)
	c.StartAgents(func(node string) client.Client {
		if node == lost {
			return nil
		}
		return watching
	})
	settings := switchover.DefaultSettings()
	settings.ProxyIdle, settings.NotReadyFor = 0, time.Second
	cfg := controller.Config{
		REST:   api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"}),
		Config: component.Config{Image: ":v1", AgentPort: 5001, ProxyDial: proxy}, PlatformSelector: "heritage=deckhouse", ClusterDomain: "cluster.local",
		Settings: settings, Stores: stores.DefaultConfig(), MetricsAddress: "0", HealthAddress: "0", LeaveBroken: leaveBroken,
	}
	installation.Background(t, func(ctx context.Context) error { return controller.Run(ctx, cfg, c.Log()) })
	return c
}

// node makes a node as its kubelet and the node controller would keep it.
func (c *cluster) node(name string) {
	c.t.Helper()
	n := c.Node(name, name == "master")
	if name != lost {
		c.Schedulable(n)
		return
	}
	n.Status.Conditions[0].Status = corev1.ConditionUnknown
	c.Schedulable(n, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoSchedule})
}

// unready is what the platform still waits for: the Pods that are not Ready.
func (c *cluster) unready() string {
	c.t.Helper()
	lines := []string{c.unsettled}
	var pods corev1.PodList
	if err := c.List(c.t.Context(), &pods); err != nil {
		c.t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if !kubelet.Ready(&pod) {
			lines = append(lines, fmt.Sprintf("Pod %s/%s on %q: %s %v", pod.Namespace, pod.Name, pod.Spec.NodeName, pod.Status.Phase, pod.Status.Conditions))
		}
	}
	return strings.Join(lines, "\n")
}
