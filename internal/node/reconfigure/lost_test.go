package reconfigure_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/d8-registry/registry/internal/node/reconfigure"
)

// killShims does what a unit with KillMode=control-group does.
func (r *real) killShims() {
	r.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.t.Fatal(err)
	}
	killed := 0
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err != nil || !strings.Contains(string(text), "\x00"+r.Socket+"\x00") || !strings.Contains(string(text), "containerd-shim") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		if err != nil {
			r.t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			r.t.Error(err)
		}
		killed++
	}
	if killed == 0 {
		r.t.Error("no shim was found")
	}
}

// A restart that kills the containers is noticed.
func TestRealLostContainers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		main := r.read()
		r.Start(t)
		r.RunPod(t)
		r.RunPod(t)
		once := true
		r.service = func(context.Context) error {
			if once {
				once = false
				r.killShims()
			}
			return nil
		}
		s := r.approve(r.want())
		if s.Phase != reconfigure.Failed || !strings.Contains(s.Message, "2 of 2 containers") || r.read() != main {
			t.Fatalf("%+v", s)
		}
	})
}

// A container that ends by itself, or is removed, is none that was lost.
func TestRealEndedContainers(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		r.Start(t)
		ended, removed, stays := r.RunPod(t), r.RunPod(t), r.RunPod(t)
		r.service = func(ctx context.Context) error {
			conn, err := grpc.NewClient("unix://"+r.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			client := cri.NewRuntimeServiceClient(conn)
			for _, id := range []string{ended, removed} {
				if _, err := client.StopContainer(ctx, &cri.StopContainerRequest{ContainerId: id}); err != nil {
					return err
				}
			}
			_, err = client.RemoveContainer(ctx, &cri.RemoveContainerRequest{ContainerId: removed})
			return err
		}
		if s := r.approve(r.want()); !s.Committed {
			t.Fatalf("%+v", s)
		}
		now, err := r.host.Containers(t.Context())
		if err != nil || !slices.Equal(now, []string{stays}) {
			t.Fatal(now, err)
		}
	})
}

// A container that ends while containerd is away is no reason to undo
// anything, although 1.7 and later do not know how it ended.
func TestRealEndsMeanwhile(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, r *real) {
		r.Configure(t, "")
		r.Start(t)
		id := r.RunPod(t)
		r.RunPod(t)
		r.service = func(context.Context) error {
			r.Terminate(t)
			for _, line := range r.Running() {
				fields := strings.Fields(line) // ID PID STARTTIME
				if fields[0] != id {
					continue
				}
				pid, err := strconv.Atoi(fields[1])
				if err != nil {
					return err
				}
				return syscall.Kill(pid, syscall.SIGKILL)
			}
			t.Errorf("%s does not run", id)
			return nil
		}
		if s := r.approve(r.want()); !s.Committed {
			t.Fatalf("%+v", s)
		}
	})
}
