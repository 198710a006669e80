package cluster

import (
	"context"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/control/excerpt"
)

// TestALiveListSharesWithTheCache: of what is read from the API server that is held
// once which the cache holds too. A version alone proves nothing: after a restore of
// etcd it comes again with something else.
func TestALiveListSharesWithTheCache(t *testing.T) {
	t.Parallel()
	pod := func(name, image string) *excerpt.Pod {
		full := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: "u", ResourceVersion: "7", Labels: map[string]string{"app": "a"}}}
		full.Spec.Containers = []corev1.Container{{Image: image}}
		return excerpt.PodOf(full)
	}
	store := toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)
	known := pod("known", "r.io/a:1")
	if err := store.Add(known); err != nil {
		t.Fatal(err)
	}
	if got := heldBy(store, pod("known", "r.io/a:1")); got != any(known) {
		t.Error("what the cache holds is held twice")
	}
	for _, live := range []*excerpt.Pod{pod("known", "r.io/b:1"), pod("new", "r.io/a:1")} {
		if got := heldBy(store, live); got != any(live) {
			t.Errorf("instead of %s with %v there is %v", live.Name, live.Images, got)
		}
	}
	if live := pod("known", "r.io/a:1"); heldBy(nil, live) != any(live) {
		t.Error("without a cache it is not what was read")
	}
}

// TestLiveValuesShareWithTheCache: of kinds that are held as values a page shares what
// a value can, and only with an object that is the same.
func TestLiveValuesShareWithTheCache(t *testing.T) {
	t.Parallel()
	node := func(name, label string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "u", ResourceVersion: "7", Labels: map[string]string{"l": label}}}
	}
	known := stored{store: toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)}
	for _, name := range []string{"same", "other"} {
		if err := known.store.Add(node(name, "a")); err != nil {
			t.Fatal(err)
		}
	}
	page := []corev1.Node{*node("same", "a"), *node("other", "b"), *node("new", "a")}
	shareAll(&lister{ctx: t.Context(), known: known}, page)
	for i, label := range []string{"a", "b", "a"} {
		have, there, _ := known.store.Get(&page[i])
		held, _ := have.(*corev1.Node)
		shared := there && reflect.ValueOf(held.Labels).Pointer() == reflect.ValueOf(page[i].Labels).Pointer()
		if shared != (i == 0) || page[i].Labels["l"] != label {
			t.Errorf("%s: shared with the cache: %t, %v", page[i].Name, shared, page[i].Labels)
		}
	}
}

// stored is a cache with one store, and its informer.
type stored struct {
	cache.Informers
	cache.Informer
	store toolscache.Store
}

func (s stored) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return s, nil
}

func (s stored) GetStore() toolscache.Store { return s.store }
