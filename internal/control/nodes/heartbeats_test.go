package nodes

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/test/harness/fleet"
)

// What counts is when this process saw a Lease change, and not what is in it.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)
	begin := now
	c := fleet.Client()
	woken := 0
	c.Now, c.Wake = func() time.Time { return now }, func() { woken++ }
	k := NewKeeper(c, switchover.Standard())
	from := &informertest.FakeInformers{Scheme: clientgoscheme.Scheme}
	if err := k.FollowHeartbeats(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	informer, err := from.FakeInformerFor(t.Context(), &coordinationv1.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	lease := func(node, version string) *coordinationv1.Lease {
		future := metav1.NewMicroTime(now.Add(time.Hour)) // a node's clock
		return &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: "registry-agent-" + node, ResourceVersion: version},
			Spec:       coordinationv1.LeaseSpec{RenewTime: &future},
		}
	}
	heard := func(node string) time.Time {
		s := &cluster.Snapshot{Nodes: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: node}}}}
		return k.Observe(s, false, now)[0].Heard
	}
	check := func(when, node string, want time.Time) {
		t.Helper()
		if got := heard(node); !got.Equal(want) {
			t.Errorf("%s: %s was heard %v, want %v", when, node, got, want)
		}
	}
	check("an agent without a Lease", "a", time.Time{})
	informer.Add(lease("a", "5"))
	check("the first", "a", begin)
	now = now.Add(time.Minute)
	informer.Update(lease("a", "5"), lease("a", "5"))
	check("a look at the same", "a", begin)
	informer.Update(lease("a", "5"), lease("a", "3")) // after a restore it is lower
	check("renewed", "a", now)
	check("another node", "b", time.Time{})
	if woken > 0 {
		t.Error("each heartbeat makes a pass")
	}
	now = now.Add(v1alpha1.SilentAfter + time.Second)
	informer.Update(lease("a", "3"), lease("a", "4"))
	check("it was silent", "a", now)
	if woken != 1 {
		t.Errorf("%d passes are asked for when a silent agent is heard again", woken)
	}
	informer.Delete(lease("a", "6"))
	check("deleted", "a", time.Time{})
	informer.Add(lease("a", "7"))
	k.heartbeats.forget(toolscache.DeletedFinalStateUnknown{Obj: lease("a", "7")})
	check("deleted while nobody looked", "a", time.Time{})
}

func TestNextSilence(t *testing.T) {
	t.Parallel()
	now := time.Now()
	node := func(heard time.Duration, edit ...func(*switchover.Node)) switchover.Node {
		n := switchover.Node{UID: "u", BootID: "b", Agent: true, Report: switchover.Report{UID: "u", BootID: "b", Generation: 6}}
		if heard > 0 {
			n.Heard = now.Add(-heard)
		}
		for _, e := range edit {
			e(&n)
		}
		return n
	}
	for name, c := range map[string]struct {
		nodes []switchover.Node
		want  time.Duration
	}{
		"nobody":              {nil, 0},
		"one is heard":        {[]switchover.Node{node(time.Minute)}, v1alpha1.SilentAfter - time.Minute + time.Second},
		"the next of two":     {[]switchover.Node{node(time.Minute), node(2 * time.Minute)}, v1alpha1.SilentAfter - 2*time.Minute + time.Second},
		"it is silent":        {[]switchover.Node{node(time.Hour)}, 0},
		"without a heartbeat": {[]switchover.Node{node(0)}, 0},
		"no agent is wanted":  {[]switchover.Node{node(time.Minute, func(n *switchover.Node) { n.Agent = false })}, 0},
	} {
		if got := NextSilence(switchover.Observed{Now: now, Nodes: c.nodes}); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
