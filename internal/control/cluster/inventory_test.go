package cluster

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lists notes what is listed, in order.
type lists struct {
	client.Reader
	all []client.ObjectList
}

func (l *lists) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	l.all = append(l.all, list)
	return nil
}

// TestNamespacesAreListedAfterWhatIsInThem: what came into a new namespace meanwhile would
// have one that is not known, and so be a tenant's. And Nodes are the last of all.
func TestNamespacesAreListedAfterWhatIsInThem(t *testing.T) {
	t.Parallel()
	l := &lists{}
	if _, err := (&Client{}).takeInventory(&lister{ctx: t.Context(), from: l}, true); err != nil {
		t.Fatal(err)
	}
	at := func(is func(client.ObjectList) bool) int { return slices.IndexFunc(l.all, is) }
	namespaces := at(func(list client.ObjectList) bool { _, ok := list.(*corev1.NamespaceList); return ok })
	nodes := at(func(list client.ObjectList) bool { _, ok := list.(*corev1.NodeList); return ok })
	if len(l.all) < 10 || namespaces != len(l.all)-2 || nodes != len(l.all)-1 {
		t.Errorf("of %d lists the Namespaces are number %d and the Nodes number %d", len(l.all), namespaces, nodes)
	}
}
