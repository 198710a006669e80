package excerpt

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
)

// pageSize is how many objects one page of a first list has.
const pageSize = 500

// informer is that of a kind. A kind of which there are very many is listed in pages
// and has no index by namespace: nobody asks for it, and it takes as much as a pointer
// and a name for each object.
func (r *Reducer) informer(from toolscache.ListerWatcher, kind runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
	switch kind.(type) {
	case *corev1.Pod, *appsv1.ReplicaSet, *batchv1.Job, *corev1.ReplicationController, *appsv1.ControllerRevision:
		whole := toolscache.ToListerWatcherWithContext(from)
		from = &toolscache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				return r.list(ctx, whole, o)
			},
			WatchFuncWithContext: whole.WatchWithContext,
		}
		by = toolscache.Indexers{}
	}
	return toolscache.NewSharedIndexInformer(from, kind, resync, by)
}

// list lists page by page, and keeps of each what is held. An API server before 1.34
// does not stream a first list: all pods of a large cluster at once are gigabytes. For
// a list of any version it would not make pages, so the list is of now.
func (r *Reducer) list(ctx context.Context, from toolscache.ListerWithContext, o metav1.ListOptions) (runtime.Object, error) {
	o.ResourceVersion, o.ResourceVersionMatch, o.Limit = "", "", pageSize
	all := &internalversion.List{}
	for {
		page, err := from.ListWithContext(ctx, o)
		if err != nil {
			return nil, err //nolint:wrapcheck // the informer knows the API server's errors
		}
		err = meta.EachListItem(page, func(object runtime.Object) error {
			held, ok := r.Reduce(object).(runtime.Object)
			if !ok {
				return fmt.Errorf("what is held of %T is no object", object)
			}
			all.Items = append(all.Items, held)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read a page: %w", err)
		}
		list, err := meta.ListAccessor(page)
		if err != nil {
			return nil, fmt.Errorf("read a page: %w", err)
		}
		if o.Continue = list.GetContinue(); o.Continue == "" {
			all.ResourceVersion = list.GetResourceVersion()
			return all, nil
		}
	}
}
