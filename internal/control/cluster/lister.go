package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/internal/control/excerpt"
)

// pageSize is how many objects one live LIST asks for.
const pageSize = 500

// lister reads whole lists: from a cache at once, from the API server page by
// page. After an error it reads nothing more.
type lister struct {
	ctx  context.Context //nolint:containedctx // lives for one call of Take or TakeLive
	from client.Reader
	// held is the cache that from reads; nil for the API server.
	held cache.Informers
	// known is a cache of what is read from the API server; nil if there is none.
	known cache.Informers
	// reducer makes of what was read from the API server what a cache would hold.
	reducer excerpt.Reducer
	// raw reads lists of which little is held; nil if from is to read them.
	raw    *Raw
	answer bytes.Buffer
	err    error
}

// every adds all objects of a kind to a slice. Like is an empty list of the kind. What is
// read from the API server and is as the cache holds it shares all that a value can.
func every[T any](l *lister, to *[]T, like client.ObjectList, opts ...client.ListOption) {
	pages(l, like, opts, func(page []T) {
		if l.held == nil {
			shareAll(l, page)
		}
		if *to == nil {
			*to = page
		} else {
			*to = append(*to, page...)
		}
	})
}

// shareAll reduces a page that was read from the API server.
func shareAll[T any](l *lister, page []T) {
	var store toolscache.Store
	for i := range page {
		if kind, ok := any(&page[i]).(client.Object); ok && store == nil {
			store = l.store(kind)
		}
		if held, ok := heldBy(store, l.reducer.Reduce(&page[i])).(*T); ok {
			page[i] = *held
		}
	}
}

// each adds all objects of a kind to a slice in the type in which the cache holds them.
// Of what is read from the API server only that remains of each page: whole pods of a
// large cluster are gigabytes. And what is as the cache holds it is not held twice.
func each[O, T any, P interface {
	*O
	client.Object
}](l *lister, to *[]*T, kind P, like client.ObjectList) {
	add := func(held any) {
		object, ok := held.(*T)
		if !ok {
			l.err = fmt.Errorf("list %T: what is held is %T", kind, held)
			return
		}
		*to = append(*to, object)
	}
	store := l.store(kind)
	if l.held == nil {
		share := func(held any) { add(heldBy(store, held)) }
		token, all := l.wire(kind, like, share)
		if all {
			return
		}
		pages(l, like, []client.ListOption{client.Continue(token)}, func(page []O) {
			for i := range page {
				share(l.reducer.Reduce(P(&page[i])))
			}
		})
		return
	}
	if l.err != nil {
		return
	}
	objects := store.List()
	*to = slices.Grow(*to, len(objects))
	for _, o := range objects {
		add(o)
	}
}

// wire shows what is held of all objects of a kind, decoding nothing else. If the answer
// is none that it reads, the rest is to be listed in another way, from this page on.
func (l *lister) wire(kind client.Object, like client.ObjectList, show func(held any)) (token string, all bool) {
	reader := l.reducer.Wire(kind)
	if l.raw == nil || reader == nil {
		return "", false
	}
	for l.err == nil {
		err := l.raw.page(l.ctx, kind, token, &l.answer)
		next := ""
		if err == nil {
			next, err = reader.Page(l.answer.Bytes(), show)
		}
		if errors.Is(err, excerpt.ErrNotWire) {
			return token, false
		}
		if err != nil {
			l.err = fmt.Errorf("list %T: %w", like, err)
		}
		if token = next; token == "" {
			break
		}
	}
	return "", true
}

// store is where the cache holds a kind; nil if there is no cache.
func (l *lister) store(kind client.Object) toolscache.Store {
	from := l.held
	if from == nil {
		from = l.known
	}
	if from == nil || l.err != nil {
		return nil
	}
	informer, err := from.GetInformer(l.ctx, kind)
	if err != nil {
		l.err = fmt.Errorf("list %T: %w", kind, err)
		return nil
	}
	// A list of the cache's own would be of the kind, and a copy.
	holder, ok := informer.(interface{ GetStore() toolscache.Store })
	if !ok {
		l.err = fmt.Errorf("list %T: %T has no store", kind, informer)
		return nil
	}
	return holder.GetStore()
}

// heldBy is what a store holds of an object if it is the same in everything, not only
// by its version: after a restore of etcd versions come again. Else it is the object.
func heldBy(store toolscache.Store, object any) any {
	if store == nil {
		return object
	}
	if known, there, err := store.Get(object); err == nil && there && reflect.DeepEqual(known, object) {
		return known
	}
	return object
}

// pages lists a kind and shows what was found, page by page. A cache answers in one.
func pages[T any](l *lister, like client.ObjectList, opts []client.ListOption, show func([]T)) {
	if l.held == nil {
		opts = append(opts, client.Limit(pageSize))
	} else {
		opts = append(opts, client.UnsafeDisableDeepCopy)
	}
	for l.err == nil {
		page, _ := like.DeepCopyObject().(client.ObjectList) // a fresh one: decoding into a used one reuses its maps
		if err := l.from.List(l.ctx, page, opts...); err != nil {
			l.err = fmt.Errorf("list %T: %w", page, err)
			return
		}
		items, _ := meta.GetItemsPtr(page)
		found, ok := items.(*[]T)
		if !ok {
			l.err = fmt.Errorf("list %T: it holds no %T", page, *new(T))
			return
		}
		show(*found)
		// A cache answers with a token that it does not understand.
		token := page.GetContinue()
		if token == "" || l.held != nil {
			return
		}
		opts = append(opts, client.Continue(token)) // the last one counts
	}
}
