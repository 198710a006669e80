package security

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/test/harness/containerdtest"
)

func TestMain(m *testing.M) { os.Exit(containerdtest.Isolate(m.Run)) }

// serveUser is the image's.
const serveUser = 64535

// program builds a program as it is in the image: static.
func program(t *testing.T, dir, source string) string {
	t.Helper()
	to := filepath.Join(dir, filepath.Base(source))
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", to, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", source, err, out)
	}
	return to
}

// locked is what the kubelet makes of the settings of container serve.
func locked() *cri.LinuxContainerSecurityContext {
	return &cri.LinuxContainerSecurityContext{
		RunAsUser: &cri.Int64Value{Value: serveUser}, RunAsGroup: &cri.Int64Value{Value: serveUser},
		NoNewPrivs: true, ReadonlyRootfs: true,
		Capabilities:   &cri.Capability{DropCapabilities: []string{"ALL"}},
		Seccomp:        &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault},
		SelinuxOptions: &cri.SELinuxOption{Type: "spc_t"},
		MaskedPaths:    []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"},
		ReadonlyPaths:  []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
	}
}

// preparing is the same of init container prepare.
func preparing() *cri.LinuxContainerSecurityContext {
	s := locked()
	s.RunAsUser, s.RunAsGroup = &cri.Int64Value{}, &cri.Int64Value{}
	s.Capabilities.AddCapabilities = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER"}
	return s
}

// node is one containerd, the folder of an agent, and programs.
type node struct {
	t            *testing.T
	containerd   *containerdtest.Containerd
	state        string
	agent, probe string
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("containers need root")
	}
	n := &node{t: t, containerd: containerdtest.New(t)}
	n.containerd.Start(t)
	n.state = filepath.Join(n.containerd.Dir, "agent-state")
	n.agent = program(t, n.containerd.Dir, "../../cmd/registry-agent")
	n.probe = program(t, n.containerd.Dir, "./testdata/probe")
	if err := os.Mkdir(n.state, 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

// run starts a program in a container that has the agent's folder.
func (n *node) run(program string, security *cri.LinuxContainerSecurityContext, args ...string) *containerdtest.Running {
	n.t.Helper()
	const state, kubeconfig = "/var/lib/registry-agent", "/kubeconfig"
	config := filepath.Join(n.containerd.Dir, "kubeconfig")
	// An API server that never answers: serve needs none to begin.
	if err := os.WriteFile(config, []byte(`{"clusters":[{"name":"a","cluster":{"server":"https://127.0.0.1:1"}}],"contexts":[{"name":"a","context":{"cluster":"a"}}],"current-context":"a"}`), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return n.containerd.RunContainer(n.t, containerdtest.Container{
		Command: append([]string{"/program"}, args...), Security: security,
		Mounts: []*cri.Mount{
			{HostPath: program, ContainerPath: "/program", Readonly: true},
			{HostPath: config, ContainerPath: kubeconfig, Readonly: true},
			{HostPath: n.state, ContainerPath: state},
		},
	})
}

// TestServeIsLockedIn: with the settings of the DaemonSet serve does its work
// and stops on a signal. An attacker who takes it over has no rights on the node.
func TestServeIsLockedIn(t *testing.T) {
	n := newNode(t)
	if code, said := n.run(n.agent, preparing(), "prepare").Wait(); code != 0 {
		t.Fatalf("prepare ended with %d: %s", code, said)
	}
	if err := os.WriteFile(filepath.Join(n.state, "node.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := n.run(n.agent, locked(), "serve", "--kubeconfig=/kubeconfig")
	if err := n.ask(serve); err != nil {
		t.Errorf("%v; serve said\n%s", err, serve.Log())
	}
	// A process of root's on the same machine stands for the host's init, which a
	// test had better not touch.
	init := exec.CommandContext(t.Context(), "sleep", "600")
	if err := init.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = init.Process.Kill(); _ = init.Wait() }()
	code, said := n.run(n.probe, locked(), "/var/lib/registry-agent", fmt.Sprint(init.Process.Pid)).Wait()
	if code != 0 || said != "" {
		t.Errorf("ended with %d:\n%s", code, said)
	}
	// The probe notices: root without its capabilities may do some of it.
	root := locked()
	root.RunAsUser, root.RunAsGroup = &cri.Int64Value{}, &cri.Int64Value{}
	_, said = n.run(n.probe, root, "/var/lib/registry-agent", fmt.Sprint(init.Process.Pid)).Wait()
	if !strings.Contains(said, "it may end a process of root's") {
		t.Errorf("as root:\n%s", said)
	}
	t.Logf("root without capabilities, which serve is not:\n%s", said)
	serve.Stop()
	if code, said := serve.Wait(); code != 0 {
		t.Errorf("serve ended with %d: %s", code, said)
	}
}

// ask asks serve as node does.
func (n *node) ask(serve *containerdtest.Running) error {
	n.t.Helper()
	var ca, token []byte
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		if strings.Contains(serve.Log(), "agent serves") {
			break
		}
	}
	if ca, err = os.ReadFile(filepath.Join(n.state, "serve", "ca.crt")); err != nil {
		return err
	}
	if token, err = os.ReadFile(filepath.Join(n.state, "serve", "token")); err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "https://127.0.0.1:5001/-/generation", nil)
	if err != nil {
		return err
	}
	req.Header.Set(hostsdir.TokenHeader, strings.TrimSpace(string(token)))
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("serve answers %s", resp.Status)
	}
	return nil
}
