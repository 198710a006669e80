package agenttest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/agent"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// Node is a node whose agent is not started yet.
type Node struct {
	Name       string
	API        *apiserver.API
	Containerd *containerdtest.Containerd
	CRI        *containerd.Client
	// Config and Serving are the two halves' configurations; a test may change
	// them before Start.
	Config  agent.Config
	Serving serve.Config
	// Source is where users of this node write host directories.
	Source string

	t          testing.TB
	secret     *corev1.Secret
	generation int64
}

// New makes a node of a containerd that was prepared, and starts that one.
func New(t testing.TB, api *apiserver.API, c *containerdtest.Containerd) *Node {
	t.Helper()
	n := &Node{t: t, API: api, Containerd: c, Source: filepath.Join(c.Dir, "registry.d")}
	namespace := api.Namespace(t)
	n.Name = namespace + "-node" // unique in the shared API server
	n.CRI = c.Start(t)
	owner := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}
	n.must(api.Client().Create(t.Context(), owner))
	n.must(api.Client().Create(t.Context(), &registryv1alpha1.RegistryNode{ObjectMeta: metav1.ObjectMeta{
		Name:            n.Name,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: owner.UID}},
	}}))
	listen, state := loopback.Address(t), t.TempDir()
	n.Serving = serve.Config{
		Listen: listen, StateDir: state, Namespace: namespace, Secret: registryv1alpha1.SecretAgent,
		Quiet: 300 * time.Millisecond, Kube: api.Config(),
	}
	n.Config = agent.Config{
		Listen: listen, StateDir: state, NodeName: n.Name, Socket: c.Socket, SourceDir: n.Source,
		HostRoot: "/", BootID: "boot-1", ProofInterval: time.Minute, Version: "test",
		Service: systemd{c}, Kube: api.Config(),
	}
	return n
}

// systemd restarts the node's containerd as the host's would.
type systemd struct{ c *containerdtest.Containerd }

func (systemd) Check(context.Context) error         { return nil }
func (s systemd) Restart(ctx context.Context) error { return s.c.RestartService(ctx) }

// Start runs both halves until the test ends or stop is called.
func (n *Node) Start() (stop func()) {
	n.t.Helper()
	stopServe := Background(n.t, "serve", func(ctx context.Context, log *slog.Logger) error { return serve.Run(ctx, n.Serving, log) })
	stopNode := Background(n.t, "node", func(ctx context.Context, log *slog.Logger) error { return agent.Run(ctx, n.Config, log) })
	return func() {
		stopNode()
		stopServe()
		loopback.Freed(n.Serving.Listen)
	}
}

// Background runs one half until the test ends or stop is called. It logs to the
// test, and an error of it fails the test.
func Background(t testing.TB, part string, run func(context.Context, *slog.Logger) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(&testLog{t}, nil)).With("part", part)
	go func() { done <- run(ctx, log) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", part, err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	return stop
}

type testLog struct{ t testing.TB }

func (l *testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// Own is the node's RegistryNode as it is now.
func (n *Node) Own() *registryv1alpha1.RegistryNode {
	n.t.Helper()
	var own registryv1alpha1.RegistryNode
	n.must(n.API.Client().Get(n.t.Context(), client.ObjectKey{Name: n.Name}, &own))
	return &own
}

// Until waits for a report that is as wanted.
func (n *Node) Until(what string, good func(registryv1alpha1.RegistryNodeStatus) bool) registryv1alpha1.RegistryNodeStatus {
	n.t.Helper()
	var last registryv1alpha1.RegistryNodeStatus
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if last = n.Own().Status; good(last) {
			return last
		}
		<-time.After(30 * time.Millisecond)
	}
	n.t.Fatalf("timed out waiting for %s; last report %+v", what, last)
	return last
}

// Reported waits until the node reports what was published last.
func (n *Node) Reported() registryv1alpha1.RegistryNodeStatus {
	n.t.Helper()
	return n.Until(fmt.Sprintf("generation %d", n.generation), func(s registryv1alpha1.RegistryNodeStatus) bool {
		return s.Generation == n.generation && s.Restart == nil
	})
}

// Pull is a first attempt of a reference that containerd does not have, as for
// a pod without pull secrets.
func (n *Node) Pull(ref string) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	if err := n.CRI.RemoveImage(ctx, ref); err != nil {
		return err
	}
	_, err := n.CRI.PullImage(ctx, ref)
	return err
}

func (n *Node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}
