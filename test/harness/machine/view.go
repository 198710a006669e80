package machine

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// View is the cluster as watches see it: reading it costs the API server
// nothing. It is a few milliseconds behind.
type View struct {
	client.Reader
	changed chan struct{}
}

// NewView starts watching what stand-ins and puller look at, until ctx ends.
func NewView(ctx context.Context, cfg *rest.Config) (*View, error) {
	c, err := cache.New(cfg, cache.Options{})
	if err != nil {
		return nil, fmt.Errorf("watch the cluster: %w", err)
	}
	v := &View{Reader: c, changed: make(chan struct{}, 1)}
	note := func() {
		select {
		case v.changed <- struct{}{}:
		default: // one is enough
		}
	}
	go func() { _ = c.Start(ctx) }() // until ctx ends
	for _, o := range []client.Object{
		&appsv1.Deployment{}, &appsv1.ReplicaSet{}, &appsv1.DaemonSet{}, &appsv1.StatefulSet{},
		&batchv1.CronJob{}, &corev1.Pod{}, &corev1.Node{}, &corev1.Service{},
	} {
		informer, err := c.GetInformer(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", o, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { note() }, UpdateFunc: func(any, any) { note() }, DeleteFunc: func(any) { note() },
		}); err != nil {
			return nil, fmt.Errorf("watch %T: %w", o, err)
		}
	}
	return v, nil
}

// Wait returns when something changed since the last Wait, or after d.
func (v *View) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-v.changed:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
