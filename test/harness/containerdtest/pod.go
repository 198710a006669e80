package containerdtest

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pauseImage is what containers of tests are made of.
const pauseImage = "registry.test/pause:1"

var sandboxImage = regexp.MustCompile(`(?m)^\s*sandbox(?:_image)? = ["'](.+)["']$`)

// RunPod runs a pod with one container in the host's network and returns the
// container's ID. It needs no registry, whatever the configuration says.
func (c *Containerd) RunPod(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*startTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+c.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c.importImages(ctx, t, cri.NewImageServiceClient(conn))
	c.mu.Lock()
	c.pods++
	number := c.pods
	c.mu.Unlock()
	id, err := c.runPod(ctx, cri.NewRuntimeServiceClient(conn), fmt.Sprintf("pod-%d", number))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (c *Containerd) runPod(ctx context.Context, client cri.RuntimeServiceClient, name string) (string, error) {
	network := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER}
	pod := &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: filepath.Join(c.Dir, "pods", name),
		Linux: &cri.LinuxPodSandboxConfig{
			CgroupParent:    c.cgroup(),
			SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: network},
		},
	}
	sandbox, err := client.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: pod}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("run the sandbox: %w", err)
	}
	container, err := client.CreateContainer(ctx, &cri.CreateContainerRequest{
		PodSandboxId: sandbox.GetPodSandboxId(), SandboxConfig: pod,
		Config: &cri.ContainerConfig{
			Metadata: &cri.ContainerMetadata{Name: "main"}, Image: &cri.ImageSpec{Image: pauseImage}, LogPath: "main.log",
			Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{NamespaceOptions: network}},
		},
	})
	if err != nil {
		return "", fmt.Errorf("create the container: %w", err)
	}
	if _, err := client.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: container.GetContainerId()}); err != nil {
		return "", fmt.Errorf("start the container: %w", err)
	}
	return container.GetContainerId(), nil
}

// importImages puts the test's image in, under its own name and that of the
// sandbox, and waits until CRI knows both.
func (c *Containerd) importImages(ctx context.Context, t testing.TB, client cri.ImageServiceClient) {
	t.Helper()
	config, err := c.Dump(ctx)
	if err != nil {
		t.Fatalf("ask containerd for its configuration: %v", err)
	}
	sandbox := sandboxImage.FindSubmatch(config)
	if sandbox == nil {
		t.Fatalf("no image of the sandbox in containerd's configuration:\n%s", config)
	}
	image := pause(t)
	images, names := map[name.Tag]v1.Image{}, []string{pauseImage, string(sandbox[1])}
	for _, ref := range names {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		images[tag] = image
	}
	archive := filepath.Join(c.Dir, "pause.tar")
	if err := tarball.MultiWriteToFile(archive, images); err != nil {
		t.Fatal(err)
	}
	//nolint:contextcheck // the test's own context will do
	if out, err := c.Ctr(t, "images", "import", "--no-unpack", archive); err != nil {
		t.Fatalf("import the image: %v: %s", err, out)
	}
	for _, ref := range names {
		for { // CRI hears of it by an event
			status, err := client.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}}, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			if status.GetImage() != nil {
				break
			}
			<-time.After(20 * time.Millisecond)
		}
	}
}
