package machine_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/pod"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/kubelet"
	"github.com/d8-registry/registry/test/harness/machine"
)

const manifest = "etc/kubernetes/manifests/registry-nodeservices.yaml"

// storeNode is a node with the files of a store, and what its kubelet said of it.
type storeNode struct {
	*machine.StaticPods
	t    *testing.T
	said chan string
}

func newStoreNode(t *testing.T, run *machine.Run, network *machine.Network, ours, name string) *storeNode {
	t.Helper()
	for _, sub := range []string{"run/ours", "opt", "etc"} {
		if err := os.MkdirAll(run.Path("spaces", name, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	space, err := network.NewSpace(t.Context(), name, machine.Folder{From: ours, To: "./run/ours"}, machine.Folder{From: "./opt", To: "/opt"}, machine.Folder{From: "./run", To: "/run"})
	if err != nil {
		t.Fatal(err)
	}
	n := &storeNode{t: t, said: make(chan string, 100)}
	n.StaticPods = &machine.StaticPods{
		Run: run, Space: space, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Pull: func(context.Context, string) error { return nil },
		Tell: func(_ context.Context, _ *corev1.Pod, f *kubelet.Fate) {
			if f == nil {
				f = &kubelet.Fate{Waiting: "gone"}
			}
			n.said <- f.Waiting + f.IP
		},
	}
	n.prepare()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.Play(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return n
}

// prepare writes what the store serves by.
func (n *storeNode) prepare() {
	n.t.Helper()
	for _, sub := range []string{"opt/deckhouse/registry", "etc/kubernetes/manifests", "etc/kubernetes/registry"} {
		if err := os.MkdirAll(n.path(sub), 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	config := n.path("etc/kubernetes/registry")
	fronttest.WriteFiles(n.t, config, fronttest.Content(n.t, 1, upstream.Upstream{Scheme: upstream.HTTPS, Host: "registry.example.test", Path: "dh"}))
	n.own(config)
	n.own(n.path("opt/deckhouse/registry"))
}

func (n *storeNode) path(name string) string { return filepath.Join(n.Space.Dir, name) }

// own gives a folder, and what is in it, to the store.
func (n *storeNode) own(folder string) {
	n.t.Helper()
	if err := filepath.WalkDir(folder, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(name, pod.User, pod.User)
	}); err != nil {
		n.t.Fatal(err)
	}
}

// order writes the manifest of a version.
func (n *storeNode) order(image, version string) {
	n.t.Helper()
	template := pod.Store{Image: image, Version: version, Port: 5001, Path: "/opt/deckhouse/registry", Quota: 1 << 20, Floor: 1}.Template()
	text, err := yaml.Marshal(corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.PodStore, Labels: template.Labels, Annotations: template.Annotations},
		Spec:       template.Spec,
	})
	if err == nil {
		hidden := n.path("etc/kubernetes/manifests/.new")
		if err = os.WriteFile(hidden, text, 0o600); err == nil {
			err = os.Rename(hidden, n.path(manifest))
		}
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// says waits until something is said. On a slow machine it may say more.
func (n *storeNode) says(want string) {
	n.t.Helper()
	for late := time.After(2 * time.Minute); ; {
		select {
		case got := <-n.said:
			if got == want {
				return
			}
			n.t.Logf("the kubelet of %s says %q, and %q is waited for", n.Space.Name, got, want)
		case <-late:
			n.t.Fatalf("the kubelet of %s does not say %q", n.Space.Name, want)
		}
	}
}

func (n *storeNode) ready() { n.t.Helper(); n.says(n.Space.IP.String()) }

// version is that of the process which runs, by the node's own loopback.
func (n *storeNode) version() string {
	n.t.Helper()
	transport := &http.Transport{DialContext: n.Space.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://127.0.0.1:5002/status", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	var s struct {
		ConfigVersion string `json:"configVersion"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		n.t.Fatal(err)
	}
	return s.ConfigVersion
}

// buildStore makes a folder with the real program.
func buildStore(t *testing.T) string {
	t.Helper()
	ours := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(ours, "registry-store"), "../../../cmd/registry-store").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(ours, 0o755); err != nil {
		t.Fatal(err)
	}
	return ours
}

// TestStaticPodsAreReal: two nodes run a store each, at the same ports, and only there. A
// store that dies comes back, one whose folder has gone when the folder is back, another
// manifest is another process, and without one there is none.
func TestStaticPodsAreReal(t *testing.T) {
	t.Parallel()
	run := newRun(t, t.TempDir())
	ours := buildStore(t)
	network, err := machine.NewNetwork(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	one, two := newStoreNode(t, run, network, ours, "one"), newStoreNode(t, run, network, ours, "two")
	for _, n := range []*storeNode{one, two} {
		n.order("image", "v-"+n.Space.Name)
	}
	for _, n := range []*storeNode{one, two} {
		n.ready()
		if got := n.version(); got != "v-"+n.Space.Name {
			t.Errorf("version %q on %s", got, n.Space.Name)
		}
	}
	if info, err := os.Stat(one.path("opt/deckhouse/registry/blobs")); err != nil || info.Sys().(*syscall.Stat_t).Uid != pod.User {
		t.Errorf("the store does not run as its user: %v, %v", info, err)
	}
	clients := net.JoinHostPort(one.Space.IP.String(), "5001")
	conn, err := two.Space.DialContext(t.Context(), "tcp", clients)
	if err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
	_ = conn.Close()

	kill := func() {
		t.Helper()
		if err := one.Kill(v1alpha1.PodStore); err != nil {
			t.Fatal(err)
		}
	}
	kill()
	one.says(kubelet.CrashLoopBackOff)
	one.ready()

	data := one.path("opt/deckhouse/registry")
	if err := os.Rename(data, data+"-away"); err != nil {
		t.Fatal(err)
	}
	kill()
	one.says(kubelet.CrashLoopBackOff)
	one.says(kubelet.CrashLoopBackOff)
	if err := os.Rename(data+"-away", data); err != nil {
		t.Fatal(err)
	}
	one.ready()

	one.order("image", "v2")
	one.says("gone")
	one.ready()
	if got := one.version(); got != "v2" {
		t.Errorf("version %q after another manifest", got)
	}

	if err := os.Remove(one.path(manifest)); err != nil {
		t.Fatal(err)
	}
	one.says("gone")
	if conn, err := two.Space.DialContext(t.Context(), "tcp", clients); err == nil {
		t.Error("it listens without a manifest")
		_ = conn.Close()
	}
	if got := two.version(); got != "v-two" {
		t.Errorf("version %q of the other node", got)
	}
}
