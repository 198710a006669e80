package agent_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/agenttest"
)

// files are all files of the state folder but those that stay while serve is at
// work.
func (w *world) files() []string {
	var out []string
	stay := []string{"node.lock", "token", "token.before", "ca.crt", "ca.key"}
	_ = filepath.WalkDir(w.node.StateDir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !slices.Contains(stay, d.Name()) {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// endsAfterServe stops an agent that has left, whose serving half takes longer to end:
// that keeps its folder, which is gone in the end.
func (w *world) endsAfterServe() {
	w.t.Helper()
	token := filepath.Join(w.node.StateDir, "serve", "token")
	w.eventually("serve to be at work", func() bool { _, err := os.Stat(token); return err == nil })
	ended := make(chan struct{})
	go func() { w.stopNode(); close(ended) }()
	select {
	case <-ended:
		w.t.Error("the agent does not wait for the serving half")
	case <-time.After(time.Second):
	}
	if _, err := os.Stat(token); err != nil {
		w.t.Errorf("a serving half at work lost its folder: %v", err)
	}
	w.stopServe()
	<-ended
	if _, err := os.Stat(w.node.StateDir); !os.IsNotExist(err) {
		w.t.Errorf("the folder is there: %v %v", err, w.files())
	}
}

// TestLeave orders an agent to leave: not while the node has a layout, then it
// clears its folder, and removes it when it ends. A fresh agent starts as if
// there had been none.
func TestLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.start()
	name := layout.NameOf(a)
	w.generation = 4
	w.publishLayout(layout.Layout{
		Schema: layout.Schema, Generation: 4, Mode: "Unmanaged", Active: a, Target: a,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), name}, []upstream.Upstream{a}),
	})
	w.reported()
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Leave = true })
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.NodeGroup = "seen" })
	w.stopNode()
	w.startNode() // its first pass knows the order
	if s := w.reported(); s.Left || len(w.files()) == 0 {
		t.Errorf("with a layout the order means nothing: %+v, %v", s, w.files())
	}
	w.must(w.api.Client().Delete(t.Context(), w.secret))
	w.secret = nil
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Legacy = true })
	s := w.until("the agent to leave", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Left })
	if !s.Legacy || s.Message != "" || len(w.files()) != 0 {
		t.Errorf("%+v, %v", s, w.files())
	}
	// One that is started again meanwhile is no harm.
	w.stopServe()
	w.startServe()
	w.endsAfterServe()
	// As if it had been killed before it was done.
	w.must(os.MkdirAll(w.node.StateDir, 0o700))
	w.must(os.WriteFile(filepath.Join(w.node.StateDir, "node.json"), []byte("{}"), 0o600))
	w.start()
	w.eventually("the agent to leave again", func() bool { return len(w.files()) == 0 })
	w.endsAfterServe()

	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { *s = registryv1alpha1.RegistryNodeSpec{} })
	w.start()
	w.publish(a, []layout.Name{layout.Fixed(), name})
	if s := w.reported(); s.Left || s.Legacy {
		t.Errorf("a fresh agent: %+v", s)
	}
	w.must(w.pull(layout.Fixed().Reference("app:v1")))
}

// TestRecalled: an agent that has left and is wanted again ends, so that the
// next one starts with what it needs, while the serving half goes on.
func TestRecalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.startServe()
	ended := make(chan error, 1)
	w.node.Kube = w.kube
	stop := agenttest.Background(t, "node", func(ctx context.Context, log *slog.Logger) error {
		ended <- agent.Run(ctx, w.node, log)
		return nil
	})
	defer stop()
	w.until("a fresh node", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Legacy })
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Leave = true })
	w.until("the agent to leave", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Left })
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Leave = false })
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "stays on this node") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the agent goes on without its folder")
	}
	w.startNode()
	// The serving half went on all the time, and they still know each other.
	w.until("a fresh node again", func(s registryv1alpha1.RegistryNodeStatus) bool { return s.Legacy && !s.Left && s.Message == "" })
	w.publish(a, []layout.Name{layout.Fixed()})
	if s := w.reported(); s.Left || s.Legacy {
		t.Errorf("wanted again: %+v", s)
	}
	w.must(w.pull(layout.Fixed().Reference("app:v1")))
}

// TestALayoutOutweighsTheOrder: what an earlier agent reported before the node
// had a layout does not make an agent clear its folder, not at its end either.
func TestALayoutOutweighsTheOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := registry(t, "team/a")
	w.start()
	w.publish(a, []layout.Name{layout.Fixed()})
	w.reported()
	w.stopNode()
	var own registryv1alpha1.RegistryNode
	w.must(w.api.Client().Get(t.Context(), client.ObjectKey{Name: w.name}, &own))
	w.reportAsAgent(&own, map[string]any{"left": true, "legacy": true})
	w.order(func(s *registryv1alpha1.RegistryNodeSpec) { s.Leave, s.Legacy = true, true })
	w.startNode()
	if s := w.reported(); s.Left || len(w.files()) == 0 {
		t.Errorf("it left: %+v, %v", s, w.files())
	}
	w.stopNode()
	if len(w.files()) == 0 {
		t.Error("its end cleared the folder")
	}
}

// reportAsAgent writes a status in the name of the agent.
func (w *world) reportAsAgent(own *registryv1alpha1.RegistryNode, status map[string]any) {
	w.t.Helper()
	kube, err := dynamic.NewForConfig(w.kube)
	w.must(err)
	object := &unstructured.Unstructured{Object: map[string]any{"status": status}}
	object.SetGroupVersionKind(registryv1alpha1.GroupVersion().WithKind("RegistryNode"))
	object.SetName(own.Name)
	_, err = kube.Resource(registryv1alpha1.GroupVersion().WithResource("registrynodes")).
		ApplyStatus(w.t.Context(), own.Name, object, metav1.ApplyOptions{FieldManager: "registry-agent", Force: true})
	w.must(err)
}
