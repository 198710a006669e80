package usermirror_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"k8s.io/client-go/rest"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/serve"
	"github.com/d8-registry/registry/internal/node/usermirror"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/containerdtest"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

const (
	agentAddress = "127.0.0.1:5001"
	mirrorName   = "registry.deckhouse.ru" // of the documentation; port 443 of mirrorAddress
	mirrorIP     = "127.0.0.43"
)

func TestMain(m *testing.M) {
	os.Exit(containerdtest.Isolate(func() int {
		// Only in a mount namespace of our own.
		if os.Geteuid() == 0 && os.Getenv("REGISTRY_TEST_ISOLATED") != "" {
			if err := nameMirror(); err != nil {
				_, _ = io.WriteString(os.Stderr, "name the mirror: "+err.Error()+"\n")
				return 1
			}
		}
		return m.Run()
	}))
}

// nameMirror lets this namespace find the documentation's mirror here.
func nameMirror() error {
	hosts, err := os.CreateTemp("", "hosts")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(hosts.Name()) }()
	_, err = hosts.WriteString("127.0.0.1 localhost\n" + mirrorIP + " " + mirrorName + "\n")
	if err = errors.Join(err, hosts.Close()); err != nil {
		return err
	}
	return syscall.Mount(hosts.Name(), "/etc/hosts", "", syscall.MS_BIND, "")
}

// node is a machine with a real containerd and the serving half of the agent;
// the test itself does what the other half would.
type node struct {
	t         *testing.T
	cd        *containerdtest.Containerd
	version   string
	cri       *containerd.Client
	folder    handoff.StateDir
	client    *handoff.Client
	state     string
	source    string
	effective string
	layout    layout.Layout
	stop      func()
}

// newNode starts both. Where effective is another name than "registry.d"
// containerd does not look where users write.
func newNode(t *testing.T, v containerdtest.Version, effective string) *node {
	t.Helper()
	n := &node{t: t, cd: containerdtest.NewVersion(t, v)}
	n.source, n.effective = filepath.Join(n.cd.Dir, "registry.d"), filepath.Join(n.cd.Dir, effective)
	n.cd.Configure(t, "["+n.cd.RegistryTable()+"]\n  config_path = \""+n.effective+"\"\n")
	n.cri = n.cd.Start(t)
	_, version, err := n.cri.Version(t.Context())
	n.must(err)
	n.version = version
	platform := upstream.Upstream{Host: "platform.example.com", Path: "deckhouse/ee", Scheme: upstream.HTTPS}
	n.layout = layout.Layout{
		Schema: layout.Schema, Generation: 1, Mode: "Direct", Target: platform, Active: platform,
		Routes: layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(platform)}, []upstream.Upstream{platform}),
	}
	n.state = t.TempDir()
	folder, err := handoff.Open(n.state)
	n.must(err)
	n.folder = folder
	data, err := layout.Encode(n.layout)
	n.must(err)
	n.must(folder.SaveLayout(data))
	n.startServe()
	return n
}

// startServe runs the half that serves, without any API server.
func (n *node) startServe() {
	n.t.Helper()
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	cfg := serve.Config{Listen: agentAddress, StateDir: n.state, Kube: &rest.Config{Host: "http://127.0.0.1:1"}, Namespace: "d8-system", Secret: "x"}
	go func() { done <- serve.Run(ctx, cfg, slog.New(slog.NewTextHandler(n.t.Output(), nil))) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("serve: %v", err)
		}
		done <- nil
	}
	n.t.Cleanup(n.stop)
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		client, err := handoff.NewClient("https://"+agentAddress, n.folder, hostsdir.TokenHeader)
		if err == nil {
			if _, err = client.Wait(n.t.Context(), handoff.Status{}); err == nil {
				n.client = client
				n.t.Cleanup(client.Close)
				return
			}
		}
		if time.Now().After(deadline) {
			n.t.Fatal(err)
		}
	}
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// pass is what the other half of the agent does.
func (n *node) pass() usermirror.Plan {
	n.t.Helper()
	token, err := n.folder.Token()
	n.must(err)
	ca, err := n.folder.CA()
	n.must(err)
	o := hostsdir.Options{AgentURL: "https://" + agentAddress, Token: token, AgentCA: ca, Containerd: n.version}
	p := usermirror.NewPlan(usermirror.Node{Root: "/", Source: n.source, Effective: n.effective, Containerd: n.version}, n.layout, o)
	if _, err := n.folder.SaveMirrors(p.Routes); err != nil {
		n.t.Fatal(err)
	}
	n.must(n.client.Mirrors(n.t.Context()))
	tree, err := hostsdir.Render(n.layout, o)
	n.must(err)
	folder, err := hostsdir.MakeDir(n.effective)
	n.must(err)
	_, err = hostsdir.Apply(folder, p.Tree(tree))
	n.must(errors.Join(err, folder.Close()))
	for {
		res, err := p.Apply()
		n.must(err)
		if !res.Again {
			return p
		}
		<-time.After(20 * time.Millisecond)
	}
}

// letGo takes what is ours away, with nobody to serve.
func (n *node) letGo() {
	n.t.Helper()
	p := usermirror.NewPlan(usermirror.Node{Root: "/", Source: n.source, Effective: n.effective}, n.layout, hostsdir.Options{})
	_, err := p.Apply()
	n.must(err)
	folder, err := hostsdir.MakeDir(n.effective)
	n.must(err)
	_, err = hostsdir.Apply(folder, nil)
	n.must(errors.Join(err, folder.Close()))
}

// republish makes the layout the one that is served.
func (n *node) republish() {
	n.t.Helper()
	n.stop()
	data, err := layout.Encode(n.layout)
	n.must(err)
	n.must(n.folder.SaveLayout(data))
	n.startServe()
}

// prove lets containerd pull what only a proof asks for.
func (n *node) prove(name layout.Name) {
	n.t.Helper()
	nonce := "node.1." + rand.Text()
	n.must(n.client.Expect(n.t.Context(), nonce, name))
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = n.cri.PullImage(ctx, name.Reference(handoff.ProofRepository+":"+nonce)) // called off
	}()
	seen, err := n.client.Seen(n.t.Context(), nonce, 10*time.Second)
	cancel()
	<-done
	if err != nil || !seen.Seen {
		n.t.Errorf("containerd does not come to the agent for %s: %v", name, err)
	}
}

func (n *node) readFile(dir, name string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	n.must(err)
	return string(data)
}

// write is what a user's script does; @ stands for containerd's folder.
func (n *node) write(name, text string) {
	n.t.Helper()
	n.cd.Write(n.t, name, text)
}

// pull is the kubelet's way.
func (n *node) pull(ref string) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 60*time.Second)
	defer cancel()
	_, err := n.cri.PullImage(ctx, ref)
	return err
}

// ctr is the documentation's way.
func (n *node) ctr(ref string, flags ...string) error {
	args := append([]string{"images", "pull", "--snapshotter", "native", "--hosts-dir=" + n.source + "/"}, flags...)
	out, err := n.cd.Ctr(n.t, append(args, ref)...)
	if err != nil {
		return errors.New(out)
	}
	return nil
}

// image is a small one with layers of its own.
func image(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(2000, 2)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// mirror443 makes a registry the one at port 443 of the documentation's name.
func mirror443(t *testing.T) *atomic.Pointer[testregistry.Registry] {
	t.Helper()
	to := &atomic.Pointer[testregistry.Registry]{}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", mirrorIP+":443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go forward(in, to.Load())
		}
	}()
	return to
}

func forward(in net.Conn, to *testregistry.Registry) {
	defer func() { _ = in.Close() }()
	if to == nil {
		return
	}
	out, err := net.Dial("tcp", to.Host())
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() { _, _ = io.Copy(out, in) }()
	_, _ = io.Copy(in, out)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
