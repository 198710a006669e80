package uninstall

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// watch wakes until at every change of something that a step may wait for. An
// event only wakes: the step then asks the API server.
func (u *uninstaller) watch(ctx context.Context) {
	named := func(name string) func(*metav1.ListOptions) {
		return func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
		}
	}
	secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	for _, what := range []struct {
		resource  schema.GroupVersionResource
		namespace string
		only      func(*metav1.ListOptions)
	}{
		{secrets, v1alpha1.Namespace, named(v1alpha1.SecretState)},
		{secrets, v1alpha1.Namespace, named(v1alpha1.SecretLayout)},
		{v1alpha1.GroupVersion().WithResource("registrynodes"), "", nil},
		{schema.GroupVersionResource{Version: "v1", Resource: "pods"}, v1alpha1.Namespace, func(o *metav1.ListOptions) {
			o.LabelSelector = fmt.Sprintf("%s in (%s,%s)", v1alpha1.LabelApp, v1alpha1.DeploymentController, v1alpha1.DaemonSetAgent)
		}},
	} {
		informer := dynamicinformer.NewFilteredDynamicInformer(u.dynamic, what.resource, what.namespace, 0, cache.Indexers{}, what.only).Informer()
		_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{ // it fails for a stopped informer only
			AddFunc:    func(any) { u.wake() },
			UpdateFunc: func(any, any) { u.wake() },
			DeleteFunc: func(any) { u.wake() },
		})
		go informer.RunWithContext(ctx)
	}
}

func (u *uninstaller) wake() {
	select {
	case u.changed <- struct{}{}:
	default:
	}
}

// until calls look after each change, until it waits for nothing. Look returns
// what is waited for; each new answer is shown to the user.
func (u *uninstaller) until(ctx context.Context, look func(context.Context) (waits string, err error)) error {
	for {
		waits, err := look(ctx)
		if err != nil || waits == "" {
			return err
		}
		if waits != u.told {
			u.told = waits
			u.say("%s", waits)
		}
		select {
		case <-u.changed:
		case <-ctx.Done():
			return fmt.Errorf("there was no more time; last seen: %s: %w", waits, ctx.Err())
		}
	}
}
