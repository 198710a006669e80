package cluster

import (
	"slices"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/layout"
)

// KnownNames are the names that a pass knows. Passes set them, watches read
// them.
type KnownNames struct{ names atomic.Pointer[[]layout.Name] }

// Set remembers the names of a pass.
func (k *KnownNames) Set(names []layout.Name) { k.names.Store(&names) }

// ImagesMatter lets through objects with an image under a known name, and those
// of d8-system: most changes of most pods change nothing for us. Before the
// first pass all go through.
func (k *KnownNames) ImagesMatter() predicate.Predicate {
	matters := func(o client.Object) bool {
		bases := k.names.Load()
		images, known := imagesOf(o)
		return o.GetNamespace() == v1alpha1.Namespace || bases == nil || !known || refersTo(images, *bases)
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return matters(e.Object) },
		DeleteFunc: func(e event.DeleteEvent) bool { return matters(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool { return matters(e.ObjectOld) || matters(e.ObjectNew) },
	}
}

// refersTo reports whether one of the image references starts with one of the names.
func refersTo(images []string, names []layout.Name) bool {
	return slices.ContainsFunc(images, func(image string) bool {
		_, _, ok := layout.MatchName(names, image)
		return ok
	})
}

// imagesOf are the image references of an object; false for a kind that has none.
func imagesOf(object client.Object) ([]string, bool) {
	switch o := object.(type) {
	case *excerpt.Pod:
		return o.Images, true
	case *excerpt.Maker:
		return o.Images, true
	}
	if w := WorkloadOf(object); w.Template != nil {
		return excerpt.Images(&w.Template.Spec), true
	}
	return nil, false
}
