package report

import (
	"log/slog"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// TestReporterKnowsOldNews: what comes through the watch may be older than our
// own write.
func TestReporterKnowsOldNews(t *testing.T) {
	t.Parallel()
	r := New(Options{Node: "n", Log: slog.New(slog.DiscardHandler)})
	object := func(uid, version string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetUID("uid-1")
		if uid != "" {
			o.SetUID("uid-2")
		}
		o.SetResourceVersion(version)
		return o
	}
	for i, step := range []struct {
		o    *unstructured.Unstructured
		want bool
	}{{nil, false}, {object("", "10"), true}, {object("", "9"), false}, {object("", "11"), true}, {object("new", "5"), true}, {nil, true}, {nil, false}} {
		if got := r.learn(step.o); got != step.want {
			t.Errorf("step %d: news %t, want %t", i, got, step.want)
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
