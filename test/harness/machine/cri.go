package machine

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	nodeSock = "/run/containerd/containerd.sock"
	// pullWithin is how long one pull may take. containerd itself gives up
	// earlier on every host that does not answer.
	pullWithin = 2 * time.Minute
)

// CRI asks a node's containerd what a kubelet asks it.
type CRI struct {
	node    string
	images  runtimeapi.ImageServiceClient
	runtime runtimeapi.RuntimeServiceClient
}

// NewCRI makes the client of the containerd in a Space; nothing is connected
// yet. It finds the socket again after the Space was restarted.
func NewCRI(r *Run, s *Space) (*CRI, error) {
	conn, err := grpc.NewClient("passthrough:///"+s.Name,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// However long a machine was off, it is found at once when it is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: pollEvery, Multiplier: 1, MaxDelay: pollEvery}, MinConnectTimeout: stopAfter,
		}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			// The socket's own path may be longer than a socket address can be.
			path := "/proc/" + strconv.Itoa(s.PID()) + "/root" + nodeSock
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd of %s: %w", s.Name, err)
	}
	r.OnClose(func() { _ = conn.Close() })
	return &CRI{node: s.Name, images: runtimeapi.NewImageServiceClient(conn), runtime: runtimeapi.NewRuntimeServiceClient(conn)}, nil
}

// NodeName is the name of the node.
func (c *CRI) NodeName() string { return c.node }

// ContainerdVersion asks the node's containerd.
func (c *CRI) ContainerdVersion(ctx context.Context) (string, error) {
	v, err := c.runtime.Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return "", fmt.Errorf("version of containerd on %s: %w", c.node, err)
	}
	return v.RuntimeVersion, nil
}

// Pull is one CRI PullImage, as the kubelet does it: user and password of the
// pull secret, no server address.
func (c *CRI) Pull(ctx context.Context, reference string, auth Login) error {
	ctx, cancel := context.WithTimeout(ctx, pullWithin)
	defer cancel()
	req := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: reference, UserSpecifiedImage: reference}}
	if auth != (Login{}) {
		req.Auth = &runtimeapi.AuthConfig{Username: auth.Username, Password: auth.Password}
	}
	_, err := c.images.PullImage(ctx, req)
	return err
}

// Has reports whether the node has an image: the kubelet pulls no such one.
func (c *CRI) Has(ctx context.Context, reference string) (bool, error) {
	found, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: reference}})
	if err != nil {
		return false, fmt.Errorf("look for %s on %s: %w", reference, c.node, err)
	}
	return found.Image != nil, nil
}

// Interrupted reports whether a pull failed because containerd went away.
func Interrupted(err error) bool {
	// For a moment after its start containerd answers before its CRI can.
	return status.Code(err) == codes.Unavailable || err != nil && strings.Contains(err.Error(), "server is not initialized yet")
}

// Answers waits until containerd pulls for the kubelet, as after a restart.
func (c *CRI) Answers(ctx context.Context) error {
	return waitUntil(ctx, "containerd of "+c.node, func(ctx context.Context) error {
		_, err := c.images.ListImages(ctx, &runtimeapi.ListImagesRequest{}, grpc.WaitForReady(true))
		return err
	})
}

// Forget removes an image under all its names, and with it its content. While
// containerd is away it waits.
func (c *CRI) Forget(ctx context.Context, image Image) error {
	err := c.forget(ctx, image)
	if Interrupted(err) {
		if err := c.Answers(ctx); err != nil {
			return err
		}
		return c.forget(ctx, image)
	}
	return err
}

func (c *CRI) forget(ctx context.Context, image Image) error {
	spec := &runtimeapi.ImageSpec{Image: image.ConfigDigest}
	if _, err := c.images.RemoveImage(ctx, &runtimeapi.RemoveImageRequest{Image: spec}); err != nil {
		return fmt.Errorf("remove %s from %s: %w", image.Name, c.node, err)
	}
	found, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil {
		return fmt.Errorf("look for %s on %s: %w", image.Name, c.node, err)
	}
	if found.Image != nil {
		return fmt.Errorf("%s is still on %s after its removal", image.Name, c.node)
	}
	return nil
}

// Login is a user name and a password of a pull secret.
type Login struct{ Username, Password string }
