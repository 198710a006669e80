package controller

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/installation"
)

// counted counts what a client writes of each object, and what it is served.
type counted struct {
	next   http.RoundTripper
	bytes  atomic.Int64
	mu     sync.Mutex
	writes map[string]int // by path
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == "" {
		c.mu.Lock()
		c.writes[r.URL.Path]++
		c.mu.Unlock()
	}
	resp, err := c.next.RoundTrip(r)
	if err == nil {
		resp.Body = &countedBody{resp.Body, &c.bytes}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes.Add(int64(n))
	return n, err
}

// of is how many writes there were to objects below a path, and the most to one.
func (c *counted) of(below string) (all, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, n := range c.writes {
		if name, ok := strings.CutPrefix(path, below); ok && !strings.Contains(name, "/") {
			all, most = all+n, max(most, n)
		}
	}
	return all, most
}

// scaleNodes is how many nodes TestScale has: SCALE, or few enough for every run.
func scaleNodes(tb testing.TB) int {
	tb.Helper()
	text := os.Getenv("SCALE")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestScale: a switch to Direct of many nodes, with simulated agents, on a real API
// server. The controller writes each Node at most once in a generation, and no
// RegistryNode after it was made. make scale runs it with more nodes and prints what it
// took.
func TestScale(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	n := scaleNodes(t)
	if err := c.DeleteAllOf(t.Context(), &appsv1.DaemonSet{}, client.InNamespace("d8-monitoring")); err != nil {
		t.Fatal(err)
	}
	c.manyNodes(n)
	counts := &counted{writes: map[string]int{}}
	c.cfg.REST.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		counts.next = next
		return counts
	}
	c.start(nil)
	const within = 10 * time.Minute
	c.waits(within, "all are known", func(v view) bool { return v.ready(switchover.Unmanaged) && c.marked(n, "") })
	begun := time.Now()
	step := begun
	c.ask(settingsOf(c.upstreamB()))
	for _, name := range switchover.Plan(switchover.Direct) {
		c.waits(within, name, func(v view) bool {
			return v.target == string(switchover.Direct) && v.condition(name).Status == metav1.ConditionTrue
		})
		t.Logf("| %d | %s | %.1f |", n, name, time.Since(step).Seconds())
		step = time.Now()
	}
	c.waits(within, "all Nodes show it", func(v view) bool { return v.ready(switchover.Direct) && c.marked(n, c.layout().Version()) })
	nodes, most := counts.of("/api/v1/nodes/")
	rns, _ := counts.of("/apis/registry.deckhouse.io/v1alpha1/registrynodes/")
	generations := int(c.layout().Generation)
	t.Logf("%d nodes: %.1f s, %d generations; the controller wrote Nodes %d times, one at most %d times, RegistryNodes that were there %d times; it was served %d MiB",
		n, time.Since(begun).Seconds(), generations, nodes, most, rns, counts.bytes.Load()>>20)
	if most > generations+1 { // and once the label, when the agent came
		t.Errorf("a Node was written %d times in %d generations", most, generations)
	}
	if rns > 0 {
		t.Errorf("RegistryNodes were written %d times", rns)
	}
}

// manyNodes makes nodes beside those of the platform, many at the same time.
func (c *testbed) manyNodes(n int) {
	c.t.Helper()
	names := make(chan string)
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for name := range names {
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}}
				node.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "boot-of-" + name, Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.4.2"}
				node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
				if err := c.Create(context.WithoutCancel(c.t.Context()), node); err != nil {
					c.t.Errorf("create %s: %v", name, err)
				}
			}
		})
	}
	for i := range n {
		names <- fmt.Sprintf("n%05d", i)
	}
	close(names)
	running.Wait()
}

// marked reports whether more than that many Nodes have the label of the preflight and
// show a version.
func (c *testbed) marked(n int, version string) bool {
	c.t.Helper()
	var nodes corev1.NodeList
	if err := c.List(c.t.Context(), &nodes); err != nil {
		c.t.Fatal(err)
	}
	for i := range nodes.Items {
		o := &nodes.Items[i]
		if o.Labels[v1alpha1.LabelContainerdConfig] == "" || o.Annotations[v1alpha1.AnnotationVersion] != version {
			return false
		}
	}
	return len(nodes.Items) > n
}

// waits is until with a time of its own.
func (c *testbed) waits(within time.Duration, what string, ok func(view) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(within); ; installation.Pause(50 * time.Millisecond) {
		v := c.state()
		if ok(v) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within %v\n%v", what, within, v)
		}
	}
}
