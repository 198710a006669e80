package containerdtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Container is one container of a pod in the host's network and process
// namespaces, of an image with nothing in it: its program is mounted.
type Container struct {
	Command  []string
	Mounts   []*cri.Mount
	Security *cri.LinuxContainerSecurityContext
}

// Running is a container that was started.
type Running struct {
	t      testing.TB
	client cri.RuntimeServiceClient
	id     string
	log    string
}

// RunContainer starts it. It is gone with the containerd.
func (c *Containerd) RunContainer(t testing.TB, what Container) *Running {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 2*startTimeout)
	defer cancel()
	c.importImages(ctx, t, cri.NewImageServiceClient(conn))
	c.mu.Lock()
	c.pods++
	name := fmt.Sprintf("pod-%d", c.pods)
	c.mu.Unlock()
	r := &Running{t: t, client: cri.NewRuntimeServiceClient(conn), log: filepath.Join(c.Dir, "pods", name, "main.log")}
	host := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_NODE}
	pod := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: filepath.Dir(r.log),
		Linux:        &cri.LinuxPodSandboxConfig{CgroupParent: c.cgroup(), SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: host}},
	}
	sandbox, err := r.client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatalf("run the sandbox: %v", err)
	}
	what.Security.NamespaceOptions = host
	container, err := r.client.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sandbox.GetPodSandboxId(), SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: pauseImage}, LogPath: filepath.Base(r.log),
			Command: what.Command, Mounts: what.Mounts, Linux: &cri.LinuxContainerConfig{SecurityContext: what.Security},
		},
	})
	if err != nil {
		t.Fatalf("create the container: %v", err)
	}
	r.id = container.GetContainerId()
	if _, err := r.client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: r.id}); err != nil {
		t.Fatalf("start the container: %v", err)
	}
	return r
}

// Stop ends the container as the kubelet does.
func (r *Running) Stop() {
	r.t.Helper()
	if _, err := r.client.StopContainer(r.t.Context(), &cri.StopContainerRequest{ContainerId: r.id, Timeout: 30}); err != nil {
		r.t.Fatalf("stop the container: %v", err)
	}
}

// Wait returns how the container ended, and what it said.
func (r *Running) Wait() (code int32, said string) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * startTimeout); ; <-time.After(20 * time.Millisecond) {
		answer, err := r.client.ContainerStatus(r.t.Context(), &cri.ContainerStatusRequest{ContainerId: r.id})
		if err != nil {
			r.t.Fatalf("ask for the container: %v", err)
		}
		if s := answer.GetStatus(); s.GetState() == cri.ContainerState_CONTAINER_EXITED {
			return s.GetExitCode(), r.Log()
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the container goes on; it said\n%s", r.Log())
		}
	}
}

// Log is what the container said.
func (r *Running) Log() string {
	data, _ := os.ReadFile(r.log) // it has said nothing yet
	return string(data)
}
