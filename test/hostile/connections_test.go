package hostile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/d8-registry/registry/internal/datapath/inbound"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
	"github.com/d8-registry/registry/test/harness/testregistry"
)

// port is the in-cluster proxy's port for pulls, with the limits of the product but
// for the time that a stranger has.
type port struct {
	t        *testing.T
	address  string
	roots    *x509.CertPool
	registry *prometheus.Registry
}

const strangersTime = 10 * time.Second

func startPort(t *testing.T) *port {
	t.Helper()
	upstreamRegistry := testregistry.New(t, testregistry.Options{TLS: true})
	upstreamRegistry.PushRandom(t, "team/tool", "v1", 1, 64<<10)
	registry, metrics, err := proxy.NewRegistry(func() int64 { return 1 })
	if err != nil {
		t.Fatal(err)
	}
	table := routes.NewTable(metrics)
	t.Cleanup(table.Close)
	err = table.Swap(layout.Layout{Schema: layout.Schema, Generation: 1, Routes: []layout.Route{{
		Name: layout.Fixed(), Upstreams: []upstream.Upstream{upstreamRegistry.Upstream("team")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	sum := regauth.User{Name: "client", SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Role: regauth.RoleClient} // of "test"
	users, err := regauth.NewUsers([]regauth.User{sum})
	if err != nil {
		t.Fatal(err)
	}
	connections, err := inbound.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	own, ca, err := cert.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	on, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	limits := inbound.Pulls()
	limits.Stranger = strangersTime
	pulls := proxy.New(table, proxy.Config{Metrics: metrics, DefaultHost: layout.Fixed().Host})
	server := inbound.New(regauth.Require(func() *regauth.Users { return users }, inbound.Known(pulls)), inbound.Config{
		Name: "pulls", Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil },
		Limits: limits, Metrics: connections, Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, on, inbound.Drain{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p := &port{t: t, roots: x509.NewCertPool(), registry: registry}
	p.roots.AppendCertsFromPEM([]byte(ca))
	_, number, _ := net.SplitHostPort(on.Addr().String())
	p.address = net.JoinHostPort("127.0.0.1", number)
	return p
}

// from connects from one of many addresses, as the Pods of a tenant do.
func (p *port) from(i int) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%15))}, Timeout: 20 * time.Second}
	return dialer.DialContext(p.t.Context(), "tcp", p.address)
}

func (p *port) handshake(c net.Conn) (net.Conn, error) {
	secured := tls.Client(c, &tls.Config{RootCAs: p.roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	err := secured.HandshakeContext(p.t.Context())
	return secured, err
}

// open is how many connections there are; closed, how many were closed for a limit.
func (p *port) open(known string) float64 {
	return p.value("registry_connections", "known", known)
}

func (p *port) value(metric, label, value string) (sum float64) {
	p.t.Helper()
	all, err := p.registry.Gather()
	if err != nil {
		p.t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if family.GetName() == metric && l.GetName() == label && l.GetValue() == value {
					sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

// pull is what a good client does, each time on a connection of its own.
func (p *port) pull() error {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12},
	}}
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "https://"+p.address+"/v2/system/deckhouse/tool/manifests/v1", nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth("client", "test")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// Whoever reaches the port opens what they can and never shows credentials. Others
// pull all the time, and afterwards nothing is left. It runs alone: it measures
// memory.
func TestConnectionsWithoutCredentials(t *testing.T) {
	p := startPort(t)
	const attempts = 1500
	says := []func(c net.Conn){
		func(net.Conn) {}, // no handshake
		func(c net.Conn) { p.say(c, "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n") },
		func(c net.Conn) { p.say(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow:") },
		func(c net.Conn) { p.say(c, strings.Repeat("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", 50)) }, // and reads nothing
	}
	before := memory()
	begin := time.Now()
	held, failed := p.attack(attempts, says)
	if failed != nil {
		t.Fatal(failed)
	}
	open := p.open("false")
	per := (memory() - before) / max(open, 1)
	t.Logf("%d connections in %v: %v open, %.0f KiB each; closed: %v for others, %v for a body", attempts, time.Since(begin).Round(time.Millisecond),
		open, per/1024, p.value("registry_connections_closed_total", "reason", "crowded"), p.value("registry_connections_closed_total", "reason", "body"))
	if open > 512 {
		t.Errorf("%v strangers are connected, over 512", open)
	}
	if per > 256<<10 && time.Since(begin) < strangersTime/2 {
		t.Errorf("%.0f bytes for each connection", per)
	}
	gone := time.Now().Add(strangersTime + 20*time.Second)
	for p.open("false") > 0 {
		if time.Now().After(gone) {
			t.Fatalf("%v strangers are still there", p.open("false"))
		}
		<-time.After(100 * time.Millisecond)
	}
	for _, c := range held {
		_ = c.Close()
	}
	note(t, network, "1500 connections without credentials: no handshake, half a header, a POST without its body, requests whose answers are not read",
		"never more than 512 at once, all closed in time; a client with credentials pulled on without an error")
}

// attack opens connections in parallel; a good client pulls until all were tried.
func (p *port) attack(attempts int, says []func(net.Conn)) (held []net.Conn, err error) {
	var mu sync.Mutex
	var workers sync.WaitGroup
	for worker := range 15 {
		workers.Go(func() {
			for i := worker; i < attempts; i += 15 {
				c, err := p.from(i)
				if err != nil {
					continue // its connection was closed before it began
				}
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
				says[i/15%len(says)](c)
			}
		})
	}
	over := make(chan struct{})
	go func() { workers.Wait(); close(over) }()
	pulls := 0
	for {
		if failed := p.pull(); failed != nil {
			err = errors.Join(err, fmt.Errorf("pull %d: %w", pulls, failed))
		}
		pulls++
		select {
		case <-over:
			p.t.Logf("%d pulls meanwhile", pulls)
			return held, err
		default:
		}
	}
}

func (p *port) say(c net.Conn, text string) {
	if secured, err := p.handshake(c); err == nil { // else it was closed for another
		_, _ = io.WriteString(secured, text)
	}
}

func memory() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}
