package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/controller"
	"github.com/d8-registry/registry/internal/control/stores"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// stepTimeout is for one step; a client of an API server that was away asks it
// again within half a minute.
const stepTimeout = 2 * time.Minute

// cluster is a real control plane with the real controller, and nodes with the real
// serving half and the real reporter. There is no containerd: what is served counts
// as proved. Without kubelets a switch gets as far as the in-cluster proxy.
type cluster struct {
	t *testing.T
	*installation.Cluster
	registry *testregistry.Registry
	agents   map[string]*agent // by node
}

func newCluster(t *testing.T, nodes ...string) *cluster {
	t.Helper()
	api := server.Start(t)
	c := &cluster{t: t, Cluster: installation.New(t, api.Client(), stepTimeout), agents: map[string]*agent{}}
	c.registry = testregistry.New(t, testregistry.Options{TLS: true, Username: "user", Password: "key-of-the-registry"})
	image := c.registry.PushRandom(t, "installed", "v1", 1, 64)
	for _, place := range []string{"first", "second", "third", "fourth", "fifth", "after"} {
		c.registry.Push(t, place, "v1", image)
	}
	c.RegistrySecret(v1alpha1.Namespace, c.registry.Upstream("installed"))
	for i, name := range nodes {
		c.Node(name, i == 0)
		c.agents[name] = startAgent(t, name, api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: name}), c.Cluster)
	}
	cfg := controller.Config{
		REST:   api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "master"}),
		Config: component.Config{Image: ":v1", AgentPort: 5001}, PlatformSelector: "heritage=deckhouse", ClusterDomain: "cluster.local",
		Settings: switchover.DefaultSettings(), Stores: stores.DefaultConfig(), MetricsAddress: "0", HealthAddress: "0",
	}
	installation.Background(t, func(ctx context.Context) error {
		for ctx.Err() == nil { // as the kubelet runs it
			if err := controller.Run(ctx, cfg, c.Log()); err != nil {
				c.Log().Info("the controller ended", "err", err)
			}
		}
		return nil
	})
	return c
}

// ask asks for Direct on a path of the registry.
func (c *cluster) ask(place string) {
	c.t.Helper()
	c.Ask(installation.Direct(c.registry.Upstream(place)))
}

// hour is what others change in an hour: versions grow.
func (c *cluster) hour() {
	c.t.Helper()
	others := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", GenerateName: "others-"}}
	c.Make(others)
	for i := range 500 {
		others.Data = map[string]string{"change": fmt.Sprint(i)}
		if err := c.Update(c.t.Context(), others); err != nil {
			c.t.Fatal(err)
		}
	}
}

// asked is what ask asked for.
func (c *cluster) asked() string {
	c.t.Helper()
	config := &deckhousev1alpha1.ModuleConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ModuleConfigName}}
	if err := c.Get(c.t.Context(), client.ObjectKeyFromObject(config), config); err != nil {
		c.t.Fatal(err)
	}
	var settings struct {
		Registry struct {
			Direct struct {
				ImagesRepo string `json:"imagesRepo"`
			} `json:"direct"`
		} `json:"registry"`
	}
	if err := json.Unmarshal(config.Spec.Settings.Raw, &settings); err != nil {
		c.t.Fatal(err)
	}
	return path.Base(settings.Registry.Direct.ImagesRepo)
}

// layout is what is published to agents; zero before the first.
func (c *cluster) layout() layout.Layout {
	c.t.Helper()
	var secret corev1.Secret
	err := c.Get(c.t.Context(), client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretAgent}, &secret)
	if client.IgnoreNotFound(err) != nil {
		c.t.Fatal(err)
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyLayout])
	if err != nil {
		return layout.Layout{} // none
	}
	return l
}

// wantConverged waits until what is published has a higher generation, all nodes
// report exactly that, and each agent knows its RegistryNode as it is. It returns the
// generation.
func (c *cluster) wantConverged(when string, above int64) int64 {
	c.t.Helper()
	for deadline := time.Now().Add(stepTimeout); ; installation.Pause(50 * time.Millisecond) {
		l, lines := c.layout(), []string{}
		var nodes v1alpha1.RegistryNodeList
		if err := c.List(c.t.Context(), &nodes); err != nil {
			c.t.Fatal(err)
		}
		there := len(nodes.Items) > 0
		for _, n := range nodes.Items {
			s := n.Status
			known := ""
			if own := c.agents[n.Name].reporter.Latest(); own != nil {
				known = own.ResourceVersion
			}
			there = there && s.Generation == l.Generation && s.Version == l.Version() && known == n.ResourceVersion
			lines = append(lines, fmt.Sprintf("%s: is at version %s and knows %s, reports %d %q", n.Name, n.ResourceVersion, known, s.Generation, s.Message))
		}
		if there && l.Generation > above && c.Conditions().Done(v1alpha1.ConditionTransition) {
			return l.Generation
		}
		if time.Now().After(deadline) {
			slices.Sort(lines)
			c.t.Fatalf("%s: not within %v: published is %d, to be above %d\n%s\n%v", when, stepTimeout, l.Generation, above, strings.Join(lines, "\n"), c.Conditions())
		}
	}
}
