package serve

import (
	"context"
	"encoding/base64"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/watch"
	"github.com/d8-registry/registry/internal/node/watchdog"
)

// saveRetry is the pause before a layout that could not be saved is offered again.
const saveRetry = 10 * time.Second

// source offers what is published to the keeper.
type source struct {
	kube              dynamic.Interface
	namespace, secret string
	keeper            *keeper
	watchdog          *watchdog.Watchdog
	log               *slog.Logger
}

// run follows the Secret. What the keeper could not save, on a full disk, is
// offered again: the API server sends it only once.
func (s source) run(ctx context.Context) {
	latest := make(chan *unstructured.Unstructured)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		object := watch.Object{
			Client:    s.kube,
			Resource:  schema.GroupVersionResource{Version: "v1", Resource: "secrets"},
			Namespace: s.namespace, Name: s.secret,
		}
		object.Run(ctx, s.log, func(o *unstructured.Unstructured, _ time.Time) {
			select {
			case latest <- o:
			case <-ctx.Done():
			}
		})
		return nil
	})
	group.Go(func() error {
		var secret *unstructured.Unstructured
		var again <-chan time.Time
		for {
			select {
			case secret = <-latest:
			case <-again:
			case <-ctx.Done():
				return nil
			}
			again = nil
			var err error
			s.watchdog.Do("a new layout", func() { err = s.keeper.offer(content(secret), secret != nil) })
			if err != nil {
				s.log.Error("layout not saved", "err", err)
				again = time.After(saveRetry)
			}
		}
	})
	_ = group.Wait() // neither fails
}

// content is the layout as published; empty when the Secret has none.
func content(secret *unstructured.Unstructured) []byte {
	if secret == nil {
		return nil
	}
	text, _, err := unstructured.NestedString(secret.Object, "data", v1alpha1.KeyLayout)
	data, errText := base64.StdEncoding.DecodeString(text)
	if err != nil || errText != nil {
		return nil
	}
	return data
}
