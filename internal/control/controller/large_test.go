package controller

import (
	"fmt"
	"reflect"
	"runtime"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/component"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/nodes"
	"github.com/d8-registry/registry/internal/control/platform"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// largeGeneration is what every node of a large cluster reports.
const largeGeneration = 7

// caches hold generated objects as the controller's caches do: reduced alike,
// in the same kind of store.
type caches struct {
	stores map[reflect.Type]toolscache.Store
}

func fill(tb testing.TB, nodes int) *caches {
	tb.Helper()
	c, reduced := &caches{map[reflect.Type]toolscache.Store{}}, excerpt.CacheOptions().DefaultTransform
	fleet.Large(nodes, largeGeneration, func(o client.Object) {
		kind := reflect.TypeOf(o)
		if c.stores[kind] == nil {
			c.stores[kind] = toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{})
		}
		kept, err := reduced(o)
		if err == nil {
			err = c.stores[kind].Add(kept)
		}
		if err != nil {
			tb.Fatal(err)
		}
	})
	return c
}

// values and pointers are what a store holds of a kind.
func values[T any](c *caches) []T {
	objects := c.stores[reflect.TypeFor[*T]()].List()
	all := make([]T, 0, len(objects))
	for _, o := range objects {
		all = append(all, *any(o).(*T))
	}
	return all
}

func held[T any](c *caches, kind client.Object) []*T {
	objects := c.stores[reflect.TypeOf(kind)].List()
	all := make([]*T, 0, len(objects))
	for _, o := range objects {
		all = append(all, o.(*T))
	}
	return all
}

// look is a view of what the caches hold, as cluster.Take makes it.
func (c *caches) look(doc state.Document) *state.View {
	v := fleet.Empty()
	v.Doc = doc
	v.Nodes = values[corev1.Node](c)
	inv := v.Inventory
	inv.Deployments, inv.DaemonSets = values[appsv1.Deployment](c), values[appsv1.DaemonSet](c)
	inv.RegistryNodes = values[v1alpha1.RegistryNode](c)
	inv.Makers, inv.Pods = held[excerpt.Maker](c, &appsv1.ReplicaSet{}), held[excerpt.Pod](c, &corev1.Pod{})
	inv.Namespaces = map[string]labels.Set{}
	for i := range inv.DaemonSets {
		inv.Namespaces[inv.DaemonSets[i].Namespace] = labels.Set{"heritage": "deckhouse"}
	}
	for i := range inv.RegistryNodes {
		v.RegistryNodes[inv.RegistryNodes[i].Name] = &inv.RegistryNodes[i]
	}
	return v
}

// thinker makes all of a pass that is no request.
type thinker struct {
	protocol switchover.Protocol
	nodes    *nodes.Keeper
	mover    *platform.Mover
	own      *component.Keeper
}

func newThinker() *thinker {
	c, cfg := fleet.Client(), component.Config{Image: ":own"}
	return &thinker{
		protocol: switchover.Standard(), nodes: nodes.NewKeeper(c, switchover.Standard()),
		mover: platform.NewMover(c, 0), own: component.NewKeeper(c, cfg, component.List(cfg), nil),
	}
}

// switching is a document in the middle of step Switch, where a pass has most to do:
// every node has proved the union, and every workload was re-pointed.
func switching() state.Document {
	doc := fleet.Moving()
	doc.Generation, doc.SafeGeneration = largeGeneration, largeGeneration
	doc.Target, doc.Desired.Own = doc.Desired.Registry, doc.Desired.Registry.Upstream
	route := layout.Route{Name: layout.Fixed(), Upstreams: []upstream.Upstream{doc.Target.Upstream}}
	doc.Desired.Layout = layout.Layout{Schema: layout.Schema, Generation: largeGeneration, Routes: []layout.Route{route}}
	return doc
}

// pass is a pass without its requests.
func (r *thinker) pass(tb testing.TB, c *caches) {
	tb.Helper()
	doc := switching()
	v := c.look(doc)
	for i := range v.Inventory.DaemonSets {
		d := v.Inventory.DaemonSets[i].DeepCopy()
		d.Annotations[v1alpha1.AnnotationRepointed], d.Annotations[v1alpha1.AnnotationAvailable] = fmt.Sprint(doc.Switch), fmt.Sprint(len(v.Nodes))
		d.Spec.Template = fleet.Template(layout.Fixed().Reference("a:1"))
		v.Inventory.DaemonSets[i] = *d
	}
	o := &v.Observed
	o.Now = time.Now()
	o.Nodes = r.nodes.Observe(v.Snapshot, true, o.Now)
	o.Published = switchover.Published{Found: true, Layout: doc.Desired.Layout}
	names := v.KnownNames()
	o.Census = r.mover.Census(v.Inventory, names, doc.Switch, ":own")
	r.own.ObserveProxy(tb.Context(), v)
	o.Platform = r.mover.Measure(v).Platform(doc, platform.Others{Own: r.own.Progress(v)})
	r.protocol.NeedsLive(doc.State, *o)
	v.Doc.State = r.protocol.Advance(doc.State, *o)
	request := r.protocol.CheckRequest(v.Doc.State, *o)
	platform.Sources(v.Inventory, o.Census, ":own")
	_ = request.Fingerprint()
	r.mover.Measure(v)
	_ = r.protocol.Tainted(doc.State, *o)
	_ = r.own.UpgradeMessage(v)
	if len(o.Census.References) < len(v.Nodes) || len(o.Nodes) == 0 {
		tb.Fatalf("%d references of %d nodes", len(o.Census.References), len(o.Nodes))
	}
}

// BenchmarkPass: what caches hold of a cluster, and what a pass costs in it.
func BenchmarkPass(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("nodes=%d/pods=%d", n, n*fleet.LargePods), func(b *testing.B) {
			before := heap()
			c := fill(b, n)
			holds := float64(heap()-before) / (1 << 20)
			r, cpu := newThinker(), processor(b)
			for b.Loop() {
				r.pass(b, c)
			}
			b.ReportMetric((processor(b)-cpu).Seconds()/float64(b.N), "CPU-s/pass")
			b.ReportMetric(holds, "MiB-held")
			b.ReportMetric(0, "ns/op")
			runtime.KeepAlive(c)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what cleanups let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// processor is the processor time that this process has taken.
func processor(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
