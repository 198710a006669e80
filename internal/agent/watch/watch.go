// Package watch follows one object of the API server by name. Agents need no
// more: the layout's Secret and the node's own RegistryNode.
package watch

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
)

// Object is one object of the API server, which may exist or not.
type Object struct {
	Client    dynamic.Interface
	Resource  schema.GroupVersionResource
	Namespace string // empty for cluster-scoped objects
	Name      string
}

// Run calls seen with the object, nil while there is none, as soon as the API
// server has been asked and whenever the answer changes, one call at a time.
// While the API server is away nothing is called. It returns when the context
// ends.
func (o Object) Run(ctx context.Context, log *slog.Logger, seen func(*unstructured.Unstructured)) {
	var resource dynamic.ResourceInterface = o.Client.Resource(o.Resource)
	if o.Namespace != "" {
		resource = o.Client.Resource(o.Resource).Namespace(o.Namespace)
	}
	only := func(options metav1.ListOptions) metav1.ListOptions {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, o.Name).String()
		return options
	}
	logger := logr.FromSlogHandler(log.Handler())
	// One slot: what matters is the latest state, not every change of it.
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		Logger:     &logger,
		ObjectType: &unstructured.Unstructured{},
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				return resource.List(ctx, only(options))
			},
			WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
				return resource.Watch(ctx, only(options))
			},
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { wake() },
			UpdateFunc: func(any, any) { wake() },
			DeleteFunc: func(any) { wake() },
		},
	})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		controller.RunWithContext(ctx)
	}()
	defer func() { <-stopped }()
	if !cache.WaitForCacheSync(ctx.Done(), controller.HasSynced) {
		return
	}
	for {
		var object *unstructured.Unstructured
		for _, item := range store.List() {
			object, _ = item.(*unstructured.Unstructured)
		}
		seen(object.DeepCopy())
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
