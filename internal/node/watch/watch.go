// Package watch follows one object of the API server by name, or all of a kind.
// Agents need no more: the layout's Secret, the node's own RegistryNode, and the
// scripts for nodes.
//
// It is not an informer. That one continues a watch that ended from the last
// version that it saw, and after a restore of etcd such a watch brings nothing
// until the cluster has made as many changes again. Here each watch begins with a
// list of what is there now, whatever was there before.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

const (
	// A watch ends after a time between these two, so that the lists of all nodes
	// are spread.
	shortest = 5 * time.Minute
	longest  = 10 * time.Minute
	// answerTime is how long the API server may take for a list, or to end a watch.
	answerTime = time.Minute
)

// Object is one object of the API server, which may exist or not.
type Object struct {
	Client    dynamic.Interface
	Resource  schema.GroupVersionResource
	Namespace string // empty for cluster-scoped objects
	Name      string
}

// Run calls seen with the object, or with nil while there is none: once as soon as
// the API server has answered, and again whenever that changes or is asked anew.
// Calls follow one another. What is seen is no older than since. Run returns when
// the context ends.
func (o Object) Run(ctx context.Context, log *slog.Logger, seen func(object *unstructured.Unstructured, since time.Time)) {
	var resource dynamic.ResourceInterface = o.Client.Resource(o.Resource)
	if o.Namespace != "" {
		resource = o.Client.Resource(o.Resource).Namespace(o.Namespace)
	}
	f := follower{
		resource: resource, log: log.With("watch", o.Resource.Resource),
		only: fields.OneTermEqualSelector(metav1.ObjectNameField, o.Name).String(),
	}
	f.seen = func(since time.Time) { seen(f.there[o.Name], since) }
	f.run(ctx)
}

// All is all objects of one cluster-scoped kind.
type All struct {
	Client   dynamic.Interface
	Resource schema.GroupVersionResource
}

// Run calls seen with the objects, in no particular order, as Object's Run does
// with one. They must not be changed.
func (a All) Run(ctx context.Context, log *slog.Logger, seen func([]*unstructured.Unstructured)) {
	f := follower{resource: a.Client.Resource(a.Resource), log: log.With("watch", a.Resource.Resource)}
	f.seen = func(time.Time) { seen(slices.Collect(maps.Values(f.there))) }
	f.run(ctx)
}

// follower lists and watches.
type follower struct {
	resource dynamic.ResourceInterface
	only     string // a field selector; empty for all
	log      *slog.Logger
	seen     func(since time.Time)

	there map[string]*unstructured.Unstructured // by name
}

// run lists and watches until the context ends. The pauses after what fails grow;
// a watch that lasted begins anew.
func (f *follower) run(ctx context.Context) {
	pauses := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 8, Cap: 30 * time.Second}
	pause := pauses
	for {
		began := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.log.Warn("the API server is asked again", "err", err)
		}
		if time.Since(began) > answerTime {
			pause = pauses
		}
		select {
		case <-time.After(pause.Step()):
		case <-ctx.Done():
			return
		}
	}
}

// session lists, and watches from there. A list without a version is of now: it
// cannot be older than what anybody has seen before.
func (f *follower) session(ctx context.Context) error {
	since := time.Now()
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	list, err := f.resource.List(asking, metav1.ListOptions{FieldSelector: f.only})
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	f.there = map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		f.there[list.Items[i].GetName()] = &list.Items[i]
	}
	f.seen(since)
	return f.watch(ctx, list.GetResourceVersion(), since)
}

func (f *follower) watch(ctx context.Context, from string, since time.Time) error {
	lasts := shortest + rand.N(longest-shortest) //nolint:gosec // G404: it only spreads the lists
	ctx, cancel := context.WithTimeout(ctx, lasts+answerTime)
	defer cancel()
	seconds := int64(lasts.Seconds())
	w, err := f.resource.Watch(ctx, metav1.ListOptions{FieldSelector: f.only, ResourceVersion: from, TimeoutSeconds: &seconds})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case e, open := <-w.ResultChan():
			if !open {
				return nil
			}
			if err := f.take(e); err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			f.seen(since)
		case <-ctx.Done():
			return fmt.Errorf("watch: %w", ctx.Err())
		}
	}
}

// take notes one event.
func (f *follower) take(e apiwatch.Event) error {
	if e.Type == apiwatch.Error {
		return apierrors.FromObject(e.Object)
	}
	object, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return errors.New("an event without an object")
	}
	if e.Type == apiwatch.Deleted {
		delete(f.there, object.GetName())
	} else {
		f.there[object.GetName()] = object
	}
	return nil
}
