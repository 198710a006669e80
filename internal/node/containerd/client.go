package containerd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Client speaks CRI with one containerd, as the kubelet does. `ctr` pulls in
// another way, with other rules for host directories.
type Client struct {
	socket string
	conn   *grpc.ClientConn
	images cri.ImageServiceClient
	run    cri.RuntimeServiceClient
}

// Dial makes a client of the containerd behind a socket. It also succeeds if
// containerd does not run. The client connects again after each restart.
func Dial(socket string) (*Client, error) {
	dialer := func(ctx context.Context, path string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	// Connect again soon after a restart: until then nothing can be proved.
	retry := backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 3 * time.Second}
	conn, err := grpc.NewClient("passthrough:///"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dialer),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: time.Second}),
		grpc.WithIdleTimeout(0)) // Restarts needs the connection while it is idle
	if err != nil {
		return nil, fmt.Errorf("dial containerd at %s: %w", socket, err)
	}
	return &Client{socket: socket, conn: conn, images: cri.NewImageServiceClient(conn), run: cri.NewRuntimeServiceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Restarts calls lost each time the connection to containerd breaks, until the
// context ends.
func (c *Client) Restarts(ctx context.Context, lost func()) {
	c.conn.Connect()
	state, was := c.conn.GetState(), false
	for {
		switch {
		case state == connectivity.Ready:
			was = true
		case was:
			was = false
			lost()
		}
		if state == connectivity.Idle {
			c.conn.Connect()
		}
		if !c.conn.WaitForStateChange(ctx, state) {
			return
		}
		state = c.conn.GetState()
	}
}

// Version is the runtime's own name and version: "containerd", "v2.4.2".
func (c *Client) Version(ctx context.Context) (name, version string, err error) {
	resp, err := c.run.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return "", "", fmt.Errorf("ask %s for its version: %w", c.socket, err)
	}
	return resp.GetRuntimeName(), resp.GetRuntimeVersion(), nil
}

// PullImage pulls a reference without credentials, as for a pod without pull
// secrets, and returns the image's ID.
func (c *Client) PullImage(ctx context.Context, ref string) (string, error) {
	resp, err := c.images.PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: ref}})
	if err != nil {
		return "", fmt.Errorf("pull %s: %w", ref, err)
	}
	return resp.GetImageRef(), nil
}

// RemoveImage removes an image by reference or ID. It is no error if the image is
// not there.
func (c *Client) RemoveImage(ctx context.Context, ref string) error {
	if _, err := c.images.RemoveImage(ctx, &cri.RemoveImageRequest{Image: &cri.ImageSpec{Image: ref}}); err != nil {
		return fmt.Errorf("remove %s: %w", ref, err)
	}
	return nil
}

// ErrNoImage says that containerd does not have an image.
var ErrNoImage = errors.New("image not present")

// ImageStatus is what containerd knows about an image; ErrNoImage if nothing.
func (c *Client) ImageStatus(ctx context.Context, ref string) (*cri.Image, error) {
	resp, err := c.images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: ref}})
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", ref, err)
	}
	if resp.GetImage() == nil {
		return nil, fmt.Errorf("look up %s: %w", ref, ErrNoImage)
	}
	return resp.GetImage(), nil
}

// ListImages are all images that containerd has for the kubelet.
func (c *Client) ListImages(ctx context.Context) ([]*cri.Image, error) {
	resp, err := c.images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return resp.GetImages(), nil
}
