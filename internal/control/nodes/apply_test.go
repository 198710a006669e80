package nodes

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
)

// patched is an API server that takes patches.
type patched struct {
	client.Client
	last *v1alpha1.RegistryNode
}

func (p *patched) Patch(_ context.Context, o client.Object, _ client.Patch, _ ...client.PatchOption) error {
	p.last, _ = o.(*v1alpha1.RegistryNode)
	return nil
}

// TestOthersFieldsStay: which store a node is to run, package stores says.
func TestOthersFieldsStay(t *testing.T) {
	t.Parallel()
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "uid"}}
	own := &v1alpha1.RegistryNode{
		ObjectMeta: metav1.ObjectMeta{Name: "a", OwnerReferences: []metav1.OwnerReference{{UID: "uid"}}},
		Spec:       v1alpha1.RegistryNodeSpec{Store: &v1alpha1.StoreSpec{Version: "v1"}},
	}
	v := &state.View{Snapshot: &cluster.Snapshot{Nodes: []corev1.Node{node}, RegistryNodes: map[string]*v1alpha1.RegistryNode{"a": own}}}
	server := &patched{}
	k := &Keeper{cluster: &cluster.Client{Client: server}}
	v.Doc.Desired.Layout.Generation = 1
	if err := k.ApplyRegistryNodes(t.Context(), v); err != nil || server.last != nil {
		t.Errorf("what is as it should be is written: %+v, %v", server.last, err)
	}
	v.Nodes[0].Labels = map[string]string{v1alpha1.LabelNodeGroup: "group"}
	if err := k.ApplyRegistryNodes(t.Context(), v); err != nil || server.last == nil || server.last.Spec.NodeGroup != "group" || server.last.Spec.Store == nil || server.last.Spec.Store.Version != "v1" {
		t.Errorf("%+v, %v", server.last, err)
	}
}
