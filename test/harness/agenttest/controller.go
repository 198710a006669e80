package agenttest

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// Publish writes the next generation as the controller does.
func (n *Node) Publish(l layout.Layout) {
	n.t.Helper()
	n.generation++
	l.Schema, l.Generation = layout.Schema, n.generation
	data, err := layout.Encode(l)
	n.must(err)
	if n.secret == nil {
		n.secret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: n.Serving.Namespace, Name: registryv1alpha1.SecretAgent},
			Data:       map[string][]byte{"config": data},
		}
		n.must(n.API.Client().Create(n.t.Context(), n.secret))
	} else {
		n.secret.Data["config"] = data
		n.must(n.API.Client().Update(n.t.Context(), n.secret))
	}
	n.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Generation = n.generation; s.Legacy = false })
}

// OrderLegacy does what the controller does when the user deletes the layout's
// Secret in Unmanaged.
func (n *Node) OrderLegacy() {
	n.t.Helper()
	n.must(n.API.Client().Delete(n.t.Context(), n.secret))
	n.secret = nil
	n.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Legacy = true })
}

// order changes the RegistryNode's spec, and tries again on a conflict.
func (n *Node) order(change func(*registryv1alpha1.RegistryNodeSpec)) {
	n.t.Helper()
	for {
		own := n.Own()
		change(&own.Spec)
		err := n.API.Client().Update(n.t.Context(), own)
		if apierrors.IsConflict(err) {
			continue
		}
		n.must(err)
		return
	}
}

// Approvals are the restarts that were approved, by ID, in order.
type Approvals struct {
	mu  sync.Mutex
	ids []string
}

// IDs are those approved up to now.
func (a *Approvals) IDs() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.ids...)
}

// Approve approves every restart that the node waits for, until the test ends,
// and takes the approval back when it is over, as the controller does.
func (n *Node) Approve() *Approvals {
	n.t.Helper()
	a := &Approvals{}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(n.t.Context())
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			n.approveOnce(ctx, a)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	n.t.Cleanup(func() { cancel(); <-done })
	return a
}

func (n *Node) approveOnce(ctx context.Context, a *Approvals) {
	var own registryv1alpha1.RegistryNode
	if err := n.API.Client().Get(ctx, client.ObjectKey{Name: n.Name}, &own); err != nil {
		return // the test is over, or the next look will tell
	}
	want := own.Spec.ApprovedRestart
	switch r := own.Status.Restart; {
	case r == nil:
		want = ""
	case r.Phase == registryv1alpha1.RestartWaiting:
		want = r.ID
	case r.ID != want:
		want = ""
	}
	if want == own.Spec.ApprovedRestart {
		return
	}
	own.Spec.ApprovedRestart = want
	if err := n.API.Client().Update(ctx, &own); err == nil && want != "" {
		a.mu.Lock()
		a.ids = append(a.ids, want)
		a.mu.Unlock()
	}
}
