// Package watch follows one object of the API server by name, or all of a kind.
// Agents need no more: the layout's Secret, the node's own RegistryNode, and the
// scripts for nodes.
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

// Run calls seen with the object, or with nil while there is none: once as soon as
// the API server has answered, and again whenever that changes. Calls follow one
// another. Run returns when the context ends.
func (o Object) Run(ctx context.Context, log *slog.Logger, seen func(*unstructured.Unstructured)) {
	var resource dynamic.ResourceInterface = o.Client.Resource(o.Resource)
	if o.Namespace != "" {
		resource = o.Client.Resource(o.Resource).Namespace(o.Namespace)
	}
	only := func(options metav1.ListOptions) metav1.ListOptions {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, o.Name).String()
		return options
	}
	follow(ctx, log, resource, only, func(store cache.Store) {
		var object *unstructured.Unstructured
		for _, item := range store.List() {
			object, _ = item.(*unstructured.Unstructured)
		}
		seen(object.DeepCopy())
	})
}

// All is all objects of one cluster-scoped kind.
type All struct {
	Client   dynamic.Interface
	Resource schema.GroupVersionResource
}

// Run calls seen with the objects, in no particular order, as Object's Run does
// with one. They must not be changed.
func (a All) Run(ctx context.Context, log *slog.Logger, seen func([]*unstructured.Unstructured)) {
	all := func(options metav1.ListOptions) metav1.ListOptions { return options }
	follow(ctx, log, a.Client.Resource(a.Resource), all, func(store cache.Store) {
		items := store.List()
		objects := make([]*unstructured.Unstructured, 0, len(items))
		for _, item := range items {
			if object, ok := item.(*unstructured.Unstructured); ok {
				objects = append(objects, object)
			}
		}
		seen(objects)
	})
}

// follow calls seen with what is there, when it is known and whenever it changes.
func follow(ctx context.Context, log *slog.Logger, resource dynamic.ResourceInterface, only func(metav1.ListOptions) metav1.ListOptions, seen func(cache.Store)) {
	logger := logr.FromSlogHandler(log.Handler())
	// One slot, because only the latest state matters.
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
		seen(store)
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
