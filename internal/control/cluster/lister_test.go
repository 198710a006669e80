package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"

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
