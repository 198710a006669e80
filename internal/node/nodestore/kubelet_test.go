package nodestore

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/pod"
)

// kubelet runs the static pod of a folder, with the real program: as the user of the image, in
// the host's files, one process after the other.
type kubelet struct {
	t       *testing.T
	program string
	root    string // the host's
	pid     atomic.Int64
	// other is a pod that the API server gives it, as YAML; empty for none.
	other atomic.Pointer[string]
}

// pods is what it is to run: a manifest in the folder, and what the API server gives it. Two are
// one too many: they have the same ports.
func (k *kubelet) pods() string {
	text, err := os.ReadFile(filepath.Join(k.root, "etc/kubernetes/manifests/registry-nodeservices.yaml"))
	if err != nil && !os.IsNotExist(err) {
		k.t.Error(err)
	}
	other := ""
	if p := k.other.Load(); p != nil {
		other = *p
	}
	if other != "" && len(text) > 0 {
		k.t.Error("two stores are to run on one port")
	}
	return other + string(text)
}

func startKubelet(t *testing.T, root string) *kubelet {
	t.Helper()
	dir := t.TempDir()
	k := &kubelet{t: t, root: root, program: filepath.Join(dir, "registry-store")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", k.program, "../../../cmd/registry-store").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); k.run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return k
}

func (k *kubelet) run(ctx context.Context) {
	var cmd *exec.Cmd
	running := ""
	end := func() {
		if cmd != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
			_ = cmd.Wait()                          // of a signal
			k.pid.Store(0)
			cmd = nil
		}
	}
	defer end()
	for {
		if now := k.pods(); now != running {
			end()
			if running = now; now != "" {
				cmd = k.start([]byte(now))
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}

func (k *kubelet) start(text []byte) *exec.Cmd {
	var p corev1.Pod
	if err := yaml.UnmarshalStrict(text, &p); err != nil || p.Spec.Containers[0].Command[0] != "registry-store" {
		k.t.Errorf("no pod: %v\n%s", err, text)
		return nil
	}
	args := []string{"--drain-delay=0s", "--drain=1s"}
	for _, arg := range p.Spec.Containers[0].Args {
		for _, v := range p.Spec.Volumes {
			if flag, ok := strings.CutSuffix(arg, "="+v.HostPath.Path); ok {
				arg = flag + "=" + filepath.Join(k.root, v.HostPath.Path)
			}
		}
		args = append(args, arg)
	}
	cmd := exec.CommandContext(context.WithoutCancel(k.t.Context()), k.program, args...)
	cmd.Stderr = k.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: pod.User, Gid: pod.User}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		k.t.Error(err)
		return nil
	}
	k.pid.Store(int64(cmd.Process.Pid))
	return cmd
}
