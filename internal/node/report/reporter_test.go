package report

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

func TestAdopt(t *testing.T) {
	t.Parallel()
	report := func(boot, uid string) *registryv1alpha1.RegistryNode {
		return &registryv1alpha1.RegistryNode{
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{Kind: "Node", UID: "uid"}}},
			Status: registryv1alpha1.RegistryNodeStatus{
				Generation: 5, Version: "v", BootID: boot, NodeUID: uid,
				Redirects: []registryv1alpha1.RedirectStatus{{Name: "a", Proved: true}, {Name: "b"}},
			},
		}
	}
	for name, row := range map[string]struct {
		own  *registryv1alpha1.RegistryNode
		have int64
		want int64
	}{
		"an earlier agent":  {report("boot", "uid"), 0, 5},
		"another boot":      {report("other", "uid"), 0, 0},
		"another node":      {report("boot", "other"), 0, 0},
		"no object":         {nil, 0, 0},
		"proved since then": {report("boot", "uid"), 7, 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := New(Options{Node: "n", Identity: Identity{BootID: "boot"}, Log: slog.New(slog.DiscardHandler)})
			r.memory.proved.Generation = row.have
			r.own = row.own
			proved := r.Begin().Proved()
			if proved.Generation != row.want {
				t.Errorf("generation %d, want %d", proved.Generation, row.want)
			}
			if row.want == 5 && !slices.Equal(proved.Names, []string{"a"}) {
				t.Errorf("names %q", proved.Names)
			}
		})
	}
}

// TestReporterKnowsOldNews: after our own write the watch may still bring what was
// there before. Only that is dropped: when the cluster is restored from a backup,
// versions go back, and what is there counts.
func TestReporterKnowsOldNews(t *testing.T) {
	t.Parallel()
	r := New(Options{Node: "n", Log: slog.New(slog.DiscardHandler)})
	object := func(uid, version string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetUID(types.UID(uid))
		o.SetResourceVersion(version)
		return o
	}
	first := time.Now()
	write := func(version string) func() bool {
		return func() bool { r.learnAnswer(object("u", version)); return false }
	}
	see := func(o *unstructured.Unstructured, afterWrite bool) func() bool {
		return func() bool {
			since := first
			if afterWrite {
				since = time.Now()
			}
			return r.learn(o, since)
		}
	}
	for i, step := range []struct {
		do   func() bool
		news bool
		want string // the version that is known then
	}{
		{see(nil, false), false, ""},
		{write("7"), false, ""}, // of an object that is gone since then
		{see(object("u", "8"), false), true, "8"},
		{see(object("u", "8"), true), false, "8"}, // asked anew
		{write("10"), false, "10"},
		{see(object("u", "9"), false), false, "10"}, // from before the write
		{see(object("u", "10"), false), false, "10"},
		{see(object("u", "12"), false), true, "12"},
		{write("11"), false, "12"}, // the watch was faster than the answer
		{see(object("u", "5"), true), true, "5"},
		{write("6"), false, "6"},
		{see(object("new", "4"), false), true, "4"},
		{see(nil, false), true, ""},
	} {
		if got := step.do(); got != step.news {
			t.Errorf("step %d: news %t, want %t", i, got, step.news)
		}
		known := ""
		if own := r.Latest(); own != nil {
			known = own.ResourceVersion
		}
		if known != step.want {
			t.Errorf("step %d: version %q is known, want %q", i, known, step.want)
		}
	}
}

// TestAdoptsOnce: what a node reported itself later is no report of an earlier
// agent.
func TestAdoptsOnce(t *testing.T) {
	t.Parallel()
	r := New(Options{Node: "n", Log: slog.New(slog.DiscardHandler)})
	r.Begin()
	r.own = &registryv1alpha1.RegistryNode{Status: registryv1alpha1.RegistryNodeStatus{Generation: 5}}
	first := r.Begin()
	if first.Proved().Generation != 5 {
		t.Error("the first RegistryNode that is seen was not adopted")
	}
	first.Disprove()
	if r.Begin().Proved().Generation != 0 {
		t.Error("what was taken back came back")
	}
}

// TestAnAgentSaysWhatItReads in each report, so that the controller never publishes what
// it cannot read.
func TestAnAgentSaysWhatItReads(t *testing.T) {
	t.Parallel()
	r := New(Options{Node: "n", Log: slog.New(slog.DiscardHandler)})
	if got := r.Begin().Status.LayoutSchema; got != 2 {
		t.Errorf("it says %d", got)
	}
}
