package fronts

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/store/owner"
	"github.com/d8-registry/registry/internal/datapath/store/peer"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// Stores are processes of registry-store that know each other, as the nodes of one cluster run
// them. A process can be killed, which a store within the test (Store) cannot.
type Stores struct {
	CA  string                   // that signed the certificates of all
	All map[string]*StoreProcess // by endpoint
}

// StoreProcess is one of them. It keeps its address and its disk when it is killed and run again.
type StoreProcess struct {
	Address string // of clients
	Metrics string // address of /metrics and /readyz

	t            testing.TB
	ca, program  string
	config, data string
	content      map[string][]byte
	cmd          *exec.Cmd
}

// StoreProgram builds registry-store.
func StoreProgram(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registry-store")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/d8-registry/registry/cmd/registry-store")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build registry-store: %v\n%s", err, out)
	}
	return path
}

// NewStores are so many in front of registries. None runs yet.
func NewStores(t testing.TB, program string, number int, upstreams ...upstream.Upstream) *Stores {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stores{CA: ca.Cert, All: map[string]*StoreProcess{}}
	for range number {
		p := &StoreProcess{
			Address: loopback.Address(t), t: t, ca: ca.Cert, program: program, Metrics: loopback.Address(t),
			config: t.TempDir(), data: t.TempDir(), content: fronttest.Content(t, 1, upstreams...),
		}
		host, _, err := net.SplitHostPort(p.Address)
		if err != nil {
			t.Fatal(err)
		}
		leaf, _, err := pki.EnsureLeaf(time.Now(), ca, pki.KeyPair{}, []string{"registry.d8-system.svc", host})
		if err != nil {
			t.Fatal(err)
		}
		p.content["tls.crt"], p.content["tls.key"] = []byte(leaf.Cert), []byte(leaf.Key)
		s.All[p.Address] = p
	}
	for _, p := range s.All {
		if p.content[peer.Key], err = json.Marshal(peer.Stores{Self: p.Address, Endpoints: s.Endpoints(), CA: ca.Cert}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Endpoints are the addresses of all.
func (s *Stores) Endpoints() []string { return slices.Sorted(maps.Keys(s.All)) }

// Of are all in the order in which they are asked: by a node of that name, or for a digest.
func (s *Stores) Of(key string) (all []*StoreProcess) {
	for _, endpoint := range owner.Of(key, s.Endpoints()) {
		all = append(all, s.All[endpoint])
	}
	return all
}

// Run starts all, and waits until they serve.
func (s *Stores) Run() {
	for _, endpoint := range s.Endpoints() {
		s.All[endpoint].Run()
	}
}

// Layout is that of nodes: the stores, and behind them these registries.
func (s *Stores) Layout(upstreams ...upstream.Upstream) layout.Layout {
	l := Layout(upstreams...)
	l.Stores = layout.Stores{
		Endpoints: s.Endpoints(), CA: s.CA,
		Credentials: upstream.Credentials{Username: "node", Password: fronttest.NodePassword},
	}
	return l
}

// Run starts a store that does not run, and waits until it serves.
func (p *StoreProcess) Run() {
	p.t.Helper()
	fronttest.WriteFiles(p.t, p.config, p.content)
	p.cmd = exec.CommandContext(context.WithoutCancel(p.t.Context()), p.program, "--config-dir", p.config, "--data", p.data,
		"--listen", p.Address, "--health-listen", p.Metrics, "--quota", "1073741824", "--floor", "0", "--tag-fresh", "1ms",
		"--etcd", "/nonexistent")
	p.cmd.Stderr = p.t.Output()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.Kill)
	ready(p.t, "http://"+p.Metrics+"/readyz", nil)
}

// Kill is kill -9.
func (p *StoreProcess) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // an error is what it was killed by
}

// Node and Client are how a node and a client of the Service pull from this store.
func (p *StoreProcess) Node() *Front { return p.front("node", fronttest.NodePassword) }

// Client is the other one.
func (p *StoreProcess) Client() *Front { return p.front("ro", fronttest.ClientPassword) }

func (p *StoreProcess) front(user, password string) *Front {
	return &Front{Address: p.Address, CA: p.ca, Username: user, Password: password}
}

// Counted is the sum of a metric's series that have all of these labels, such as kind="blobs", by
// whoever has /metrics at an address.
func Counted(t testing.TB, address, metric string, labels ...string) (sum float64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, own, _ := strings.Cut(series, "{")
		if name != metric || slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(own, label) }) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s is %q", series, value)
		}
		sum += n
	}
	return sum
}
