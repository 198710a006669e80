package excerpt

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

// TestFirstListInPages: from an API server that does not stream, a first list comes in
// pages, and of each only what is held goes on.
func TestFirstListInPages(t *testing.T) {
	t.Parallel()
	const pages, perPage = 3, 2
	asked := 0
	from := &toolscache.ListWatch{
		ListWithContextFunc: func(_ context.Context, o metav1.ListOptions) (runtime.Object, error) {
			if o.Limit != pageSize || o.ResourceVersion != "" || o.Continue != map[bool]string{true: fmt.Sprint(asked)}[asked > 0] {
				t.Errorf("page %d is asked for by %+v", asked, o)
			}
			list := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "7"}}
			for i := range perPage {
				list.Items = append(list.Items, *wholePod("ns", fmt.Sprintf("pod-%d-%d", asked, i)))
			}
			if asked++; asked < pages {
				list.Continue = fmt.Sprint(asked)
			}
			return list, nil
		},
		WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
			if o.SendInitialEvents != nil {
				return nil, errors.New("it does not stream")
			}
			if o.ResourceVersion != "7" {
				t.Errorf("it watches from %q", o.ResourceVersion)
			}
			return watch.NewFake(), nil
		},
	}
	informer := (&Reducer{}).informer(from, &corev1.Pod{}, 0, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	go informer.RunWithContext(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !toolscache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("it has not filled")
	}
	held := informer.GetStore().List()
	if len(held) != pages*perPage || asked != pages {
		t.Errorf("%d objects of %d pages", len(held), asked)
	}
	for _, o := range held {
		if pod, ok := o.(*Pod); !ok || len(pod.Images) == 0 {
			t.Errorf("%T is held", o)
		}
	}
	if len(informer.GetIndexer().GetIndexers()) > 0 {
		t.Error("there is an index that nobody asks")
	}
}
