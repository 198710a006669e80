package reconfigure

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/d8-registry/registry/internal/node/containerd"
)

// Host is the containerd behind a socket of this machine.
type Host struct {
	socket string
	boot   string
}

// NewHost makes a Host and connects nothing yet. socket is its path as this
// program reaches it.
func NewHost(socket string) (*Host, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("tell one boot from another: %w", err)
	}
	return &Host{socket: socket, boot: strings.TrimSpace(string(boot))}, nil
}

// Instance implements Runtime.
func (h *Host) Instance(ctx context.Context) (string, error) {
	p, err := containerd.Running(ctx, h.socket)
	if err != nil {
		return "", err
	}
	return h.boot + "/" + p.Instance(), nil
}

// DumpConfig implements Runtime.
func (h *Host) DumpConfig(ctx context.Context, file string) ([]byte, error) {
	p, err := containerd.Running(ctx, h.socket)
	if err != nil {
		return nil, err
	}
	settings, err := containerd.Dump(ctx, p, file)
	if err != nil {
		return nil, err
	}
	return settings.Raw, nil
}

// services calls both services of CRI over a new connection: one that was made
// before a restart may fail only because it is old.
func (h *Host) services(call func(cri.RuntimeServiceClient, cri.ImageServiceClient) error) error {
	conn, err := grpc.NewClient("unix://"+h.socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return fmt.Errorf("dial containerd at %s: %w", h.socket, err)
	}
	defer func() { _ = conn.Close() }()
	return call(cri.NewRuntimeServiceClient(conn), cri.NewImageServiceClient(conn))
}

// Answers implements Runtime. containerd may be up without its CRI plugin, or
// with half of it.
func (h *Host) Answers(ctx context.Context) error {
	return h.services(func(run cri.RuntimeServiceClient, images cri.ImageServiceClient) error {
		_, err := run.Version(ctx, &cri.VersionRequest{})
		if err == nil {
			_, err = run.ListContainers(ctx, running())
		}
		if err != nil {
			return fmt.Errorf("ask CRI's runtime service: %w", err)
		}
		if _, err := images.ImageFsInfo(ctx, &cri.ImageFsInfoRequest{}); err != nil {
			return fmt.Errorf("ask CRI's image service: %w", err)
		}
		return nil
	})
}

func running() *cri.ListContainersRequest {
	state := &cri.ContainerStateValue{State: cri.ContainerState_CONTAINER_RUNNING}
	return &cri.ListContainersRequest{Filter: &cri.ContainerFilter{State: state}}
}

// Containers implements Runtime.
func (h *Host) Containers(ctx context.Context) ([]string, error) {
	var ids []string
	err := h.services(func(run cri.RuntimeServiceClient, _ cri.ImageServiceClient) error {
		list, err := run.ListContainers(ctx, running())
		if err != nil {
			return err
		}
		for _, c := range list.GetContainers() {
			ids = append(ids, c.GetId())
		}
		return nil
	})
	return ids, err
}

// Exit statuses of a container that was killed, as containers are when their
// shim dies: 137 where containerd saw it, 255 where it was away.
const (
	exitKilled  = 137
	exitUnknown = 255
)

// Lost implements Runtime.
func (h *Host) Lost(ctx context.Context, before []string) ([]string, error) {
	var lost []string
	err := h.services(func(run cri.RuntimeServiceClient, _ cri.ImageServiceClient) error {
		for _, id := range before {
			resp, err := run.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: id})
			if status.Code(err) == codes.NotFound {
				continue
			}
			if err != nil {
				return err
			}
			state, code := resp.GetStatus().GetState(), resp.GetStatus().GetExitCode()
			killed := state == cri.ContainerState_CONTAINER_EXITED && (code == exitKilled || code == exitUnknown)
			if killed || state == cri.ContainerState_CONTAINER_UNKNOWN {
				lost = append(lost, id)
			}
		}
		return nil
	})
	return lost, err
}
