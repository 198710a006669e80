package report_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/report"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// With the rights and the policy of a real agent, on a real API server.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	const node = "beats"
	own := &registryv1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{Name: node}}
	if err := api.Client().Create(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Client().Delete(context.WithoutCancel(t.Context()), own) })
	kube, err := dynamic.NewForConfig(api.As(t, apiserver.Process{ServiceAccount: "registry-agent", Node: node}))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	var hung error
	h := report.Heartbeat{
		Kube: kube, Node: node, Log: log, Alive: func() error { return hung },
		Reporter: report.New(report.Options{Kube: kube, Node: node, Log: log}),
	}
	lease := func() *coordinationv1.Lease {
		t.Helper()
		l := &coordinationv1.Lease{}
		err := api.Client().Get(t.Context(), client.ObjectKey{Namespace: registryv1alpha1.Namespace, Name: "registry-agent-" + node}, l)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	// Run, as the agent does: the RegistryNode is seen first.
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go h.Reporter.Follow(ctx, func() {})
	go func() { defer close(ended); h.Run(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); lease() == nil && time.Now().Before(deadline); {
		<-time.After(50 * time.Millisecond)
	}
	cancel()
	<-ended
	first := lease()
	if first == nil || len(first.OwnerReferences) != 1 || first.OwnerReferences[0].UID != own.UID || first.Labels["app"] != "registry-agent" {
		t.Fatalf("the first heartbeat made %+v", first)
	}
	beat := func(want string, edit func(*registryv1alpha1.RegistryNode)) {
		t.Helper()
		before := lease()
		now := own.DeepCopy()
		edit(now)
		err := report.Beat(t.Context(), h, now)
		if errors.Is(err, hung) != (hung != nil) && err != nil {
			t.Errorf("%s: %v", want, err)
		}
		if renewed := lease().ResourceVersion != before.ResourceVersion; renewed != (want == "renewed") {
			t.Errorf("%s: renewed %t", want, renewed)
		}
	}
	beat("renewed", func(*registryv1alpha1.RegistryNode) {})
	beat("silent on the way out", func(o *registryv1alpha1.RegistryNode) { o.Spec.Leave = true })
	hung = errors.New("a pass has hung")
	beat("silent when a pass has hung", func(*registryv1alpha1.RegistryNode) {})
}
