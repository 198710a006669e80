package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/test/harness/loopback"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// service is the address of a Service: a connection goes to one of those that were ready
// when somebody last looked, in turn, and stays there. A Pod that was deleted is ready no more,
// whatever it says; if there is no other one, those are taken that say so (the condition "serving"
// of an EndpointSlice, Kubernetes 1.28). A connection to one that is gone is refused, as by the kernel.
type service struct {
	address string

	mu    sync.Mutex
	all   []*instance
	gone  []*instance // deleted; some still serve
	ready []string
	turn  int
	used  map[string]int
}

// newService looks at readiness ten times a second: that, and not the moment of the end of
// a process, is how others learn of it.
func newService(t *testing.T, all ...*instance) *service {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{address: listener.Addr().String(), all: all, used: map[string]int{}}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var both sync.WaitGroup
	t.Cleanup(func() { stop(); _ = listener.Close(); both.Wait() })
	s.look()
	both.Go(func() {
		for ctx.Err() == nil {
			<-time.After(100 * time.Millisecond)
			s.look()
		}
	})
	both.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			both.Go(func() { s.carry(ctx, client.(*net.TCPConn)) })
		}
	})
	return s
}

func (s *service) look() {
	s.mu.Lock()
	all, gone := slices.Clone(s.all), slices.Clone(s.gone)
	s.mu.Unlock()
	var ready, serving []string
	for _, i := range all {
		switch deleted := slices.Contains(gone, i); {
		case i.readyz() != http.StatusOK:
		case deleted:
			serving = append(serving, i.clients)
		default:
			ready = append(ready, i.clients)
		}
	}
	if len(ready) == 0 {
		ready = serving
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = ready
}

// remove deletes a Pod.
func (s *service) remove(i *instance) {
	s.mu.Lock()
	s.gone = append(s.gone, i)
	s.mu.Unlock()
	i.stop()
}

// add has one more Pod.
func (s *service) add(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, i)
}

// routed reports whether new connections go to an instance.
func (s *service) routed(i *instance) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.ready, i.clients)
}

// came is how many connections went to an instance.
func (s *service) came(i *instance) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[i.clients]
}

func (s *service) carry(ctx context.Context, client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	s.mu.Lock()
	if len(s.ready) == 0 {
		s.mu.Unlock()
		_ = client.SetLinger(0)
		return
	}
	to := s.ready[s.turn%len(s.ready)]
	s.turn++
	// Clients are on many nodes: of one address a proxy lets no more than inbound.Pulls in.
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+s.turn%200))}
	s.used[to]++
	s.mu.Unlock()
	pod, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", to)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	defer context.AfterFunc(ctx, func() { _, _ = client.Close(), pod.Close() })()
	defer func() { _ = pod.Close() }()
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(pod, client)
		_ = pod.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(client, pod)
	_ = client.CloseWrite()
	up.Wait()
}

// puller is a client.
type puller struct {
	client *http.Client
	base   string
}

// get is nil, and an error, for anything but the whole answer.
func (p puller) get(ctx context.Context, what string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+what, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("ro", fronttest.ClientPassword)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %w", what, resp.Status, err)
	}
	return body, nil
}

// pull is an image as a whole.
func (p puller) pull(ctx context.Context) error {
	data, err := p.get(ctx, "manifests/v1")
	if err != nil {
		return err
	}
	var manifest struct {
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal(data, &manifest); err != nil || len(manifest.Layers) == 0 {
		return fmt.Errorf("a manifest of %d layers: %w", len(manifest.Layers), err)
	}
	for _, layer := range manifest.Layers {
		data, err := p.get(ctx, "blobs/"+layer.Digest)
		if err != nil {
			return err
		}
		if got := judge.DigestLike(layer.Digest, data); got != layer.Digest {
			return fmt.Errorf("%s instead of %s", got, layer.Digest)
		}
	}
	return nil
}

// build is the program that is in our image.
func build(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "registry-proxy")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", to, "github.com/d8-registry/registry/cmd/registry-proxy")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return to
}

// exec is launch with the program, which is told to stop as the kubelet does.
func (i *instance) exec(program string, delay time.Duration) {
	t := i.t
	t.Helper()
	i.clients, i.health = loopback.Address(t), loopback.Address(t)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-kubeconfig", i.kubeconfig, "-listen", i.clients,
		"-health-listen", i.health, "-namespace", i.namespace, "-pod", i.pod, "-drain-delay", delay.String(), "-drain", "20s")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i.stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM) } // an error means that it has ended
	go func() { i.ended <- cmd.Wait() }()
	t.Cleanup(func() {
		i.stop()
		select {
		case err := <-i.ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Error("did not end")
		}
	})
}

// TestARollingRestart: both proxies behind the Service are replaced, one after the other,
// while 200 clients pull all the time. They are the real program, and get SIGTERM. No pull
// fails.
func TestARollingRestart(t *testing.T) {
	const clients, rolling = 200, 6 * time.Second
	program := build(t)
	a := newInstance(t)
	a.exec(program, rolling)
	good := fronttest.Content(t, 1, a.registry.Upstream("team"))
	a.put(good)
	a.registry.PushRandom(t, "team/small", "v1", 2, 40_000)
	a.registry.SetFaults(testregistry.Faults{Latency: 400 * time.Millisecond}) // so that many are under way at any moment
	another := func() *instance {
		i := *a
		i.ended = make(chan error, 1)
		i.exec(program, rolling)
		eventually(t, "ready", func() bool { return i.readyz() == http.StatusOK })
		return &i
	}
	eventually(t, "ready", func() bool { return a.readyz() == http.StatusOK })
	b := another()
	s := newService(t, a, b)

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(good["tls.crt"])
	ctx, over := context.WithCancel(t.Context())
	var pulls, failed atomic.Int64
	var all sync.WaitGroup
	for n := range clients {
		transport := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: n%2 == 0, // half of them connect for each request, the others stay as long as they may
		}
		p := puller{&http.Client{Transport: transport}, "https://" + s.address + "/v2/system/deckhouse/small/"}
		all.Go(func() {
			defer transport.CloseIdleConnections()
			for ctx.Err() == nil {
				err := p.pull(context.WithoutCancel(ctx)) // the last one is to end too
				if pulls.Add(1); err != nil && failed.Add(1) <= 5 {
					t.Error(err)
				}
			}
		})
	}
	eventually(t, "all pull", func() bool { return pulls.Load() >= clients })
	served := []*instance{a, b}
	for _, old := range []*instance{a, b} {
		s.remove(old)
		eventually(t, "nobody is sent to the old one", func() bool { return !s.routed(old) })
		next := another()
		served = append(served, next)
		s.add(next)
		eventually(t, "clients come to the new one", func() bool { return s.routed(next) })
		if err := <-old.ended; err != nil {
			t.Errorf("the old one ended with %v", err)
		}
		old.ended <- nil // for the test's end
	}
	before := pulls.Load()
	eventually(t, "all pull from the new ones", func() bool { return pulls.Load() >= before+clients })
	over()
	all.Wait()
	t.Logf("%d pulls, %d failed", pulls.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d of %d pulls failed", failed.Load(), pulls.Load())
	}
	for n, i := range served {
		if s.came(i) == 0 {
			t.Errorf("instance %d: nobody came", n)
		}
	}
}

// TestTheOnlyOneIsReplaced: the node of the only proxy is drained. Its successor needs longer than
// others need to learn that it ends, and until then it is sent clients.
func TestTheOnlyOneIsReplaced(t *testing.T) {
	t.Parallel()
	const delay, successor = 8 * time.Second, 5 * time.Second
	program := build(t)
	a := newInstance(t)
	a.exec(program, delay)
	good := fronttest.Content(t, 1, a.registry.Upstream("team"))
	a.put(good)
	a.registry.PushRandom(t, "team/small", "v1", 1, 10_000)
	eventually(t, "ready", func() bool { return a.readyz() == http.StatusOK })
	s := newService(t, a)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(good["tls.crt"])
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	client := puller{&http.Client{Transport: transport}, "https://" + s.address + "/v2/system/deckhouse/small/"}
	b := *a
	b.ended = make(chan error, 1)
	pulls := 0
	s.remove(a)
	for began, started := time.Now(), false; !started || s.came(&b) < 5; pulls++ {
		if !started && time.Since(began) > successor {
			started = true
			b.exec(program, delay)
			s.add(&b)
		}
		if err := client.pull(t.Context()); err != nil {
			t.Fatalf("after %s, and %d pulls: %v", time.Since(began), pulls, err)
		}
		<-time.After(20 * time.Millisecond)
	}
	if err := <-a.ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	a.ended <- nil // for the test's end
	t.Logf("%d pulls, %d of the old one", pulls, s.came(a))
}
