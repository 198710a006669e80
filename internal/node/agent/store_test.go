package agent_test

import (
	"flag"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/node/nodeservices"
)

// TestAStoreIsOrdered: the agent says what becomes of spec.store, and nothing without it.
func TestAStoreIsOrdered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node.StaticPods = func() (string, error) { return "", nodeservices.ErrNoStaticPods }
	w.start()
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.NodeGroup = "seen" })
	if s := w.until("a report", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.AgentVersion != "" }); s.Store != nil {
		t.Errorf("nobody ordered a store: %+v", s.Store)
	}
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) {
		s.Store = &registryv1alpha1.StoreSpec{Image: "a", Version: "v1", Approved: "v1", Port: 5001, Path: "/opt/deckhouse/registry", Addresses: []string{"192.0.2.1"}}
	})
	w.until("what it would serve by", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Store != nil && s.Store.State == registryv1alpha1.StoreWaiting && strings.Contains(s.Store.Message, "it waits for what it is to serve by")
	})
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Store = nil })
	w.until("nothing of a store", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Store == nil })
}

// TestLeaveWaitsForTheStore: the module leaves a node when its store has ended.
func TestLeaveWaitsForTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.node.StaticPods = func() (string, error) { return "/none-" + w.name, nil }
	process, err := net.Listen("tcp", "127.0.0.1:5002")
	w.must(err)
	go func() {
		_ = http.Serve(process, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("{}")) }))
	}()
	t.Cleanup(func() { _ = process.Close() })
	var own registryv1alpha1.RegistryNode
	w.must(w.api.Client().Get(t.Context(), client.ObjectKey{Name: w.name}, &own))
	before := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
		"store": map[string]any{"state": registryv1alpha1.StoreServing, "request": "of an agent before"},
	}}}
	before.SetGroupVersionKind(registryv1alpha1.GroupVersion().WithKind("RegistryNode"))
	before.SetName(w.name)
	w.must(w.api.Client().Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(before), client.FieldOwner("registry-agent")))
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Leave = true })
	w.start()
	w.until("the end of the store", func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Store != nil && s.Store.Message == "it was told to stop" && s.Legacy
	})
	<-time.After(2 * time.Second)
	w.must(w.api.Client().Get(t.Context(), client.ObjectKey{Name: w.name}, &own))
	if own.Status.Left {
		t.Error("it has left beside a store that runs")
	}
	w.must(process.Close())
	w.until("its leave", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Left && s.Store == nil })
}

// TestStaticPodsByFlag: who knows where the kubelet looks can say so.
func TestStaticPodsByFlag(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"/etc/kubelet.d": "/etc/kubelet.d", "kubelet.d": "", "": ""} {
		var c agent.Config
		flags := flag.NewFlagSet("agent", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		c.RegisterFlags(flags)
		err := flags.Parse([]string{"--static-pods=" + value})
		if (err == nil) != (want != "") {
			t.Errorf("%q: %v", value, err)
		}
		if err != nil {
			continue
		}
		if got, err := c.StaticPods(); got != want || err != nil {
			t.Errorf("%q: %q, %v", value, got, err)
		}
	}
}
