package gateway

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watchSecret calls changed with the data of the Secret whenever they may have
// changed, from one goroutine, until the context ends. A Secret that is absent
// or deleted changes nothing.
func watchSecret(ctx context.Context, client kubernetes.Interface, namespace, name string, changed func(map[string][]byte)) {
	secrets := client.CoreV1().Secrets(namespace)
	// By name: that is all we may read, and the API server enforces it.
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	take := func(object any) {
		if secret, ok := object.(*corev1.Secret); ok {
			changed(secret.Data)
		}
	}
	listed := false // since the last watch
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
				o.FieldSelector, o.ResourceVersion = only, "" // as of now
				listed = true
				return secrets.List(ctx, o)
			},
			WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
				o.FieldSelector = only
				if o.SendInitialEvents != nil { // a list and a watch in one
					o.ResourceVersion, listed = "", true
				}
				if !listed {
					return nil, errListAgain
				}
				listed = false
				return secrets.Watch(ctx, o)
			},
		},
		ObjectType: &corev1.Secret{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    take,
			UpdateFunc: func(_, object any) { take(object) },
		},
	})
	informer.RunWithContext(ctx)
}

// errListAgain makes each watch begin with a list. An informer goes on from the last
// version that it saw, and after a restore of etcd such a watch brings nothing until
// the cluster has made as many changes again.
var errListAgain = apierrors.NewResourceExpired("each watch begins with a list")
