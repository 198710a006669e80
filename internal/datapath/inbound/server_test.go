package inbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/d8-registry/registry/test/harness/cert"
)

// served runs a server until stop is called; ended gets what Serve returned.
func served(t *testing.T, h http.HandlerFunc, drain Drain) (client *http.Client, address string, stop func(), ended chan error) {
	t.Helper()
	own, ca, err := cert.SelfSigned("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	server := New(h, Config{Name: "pulls", Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }, Log: log})
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener, drain) }()
	t.Cleanup(stop)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, "https://" + listener.Addr().String(), stop, ended
}

func ask(t *testing.T, client *http.Client, address string) (protocol int, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.ProtoMajor, err
}

// A pull under way when the server is told to stop ends; during the delay new
// ones are still served.
func TestServerDrains(t *testing.T) {
	t.Parallel()
	under, release := make(chan struct{}), make(chan struct{})
	client, address, stop, ended := served(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(under)
			<-release
		}
	}, Drain{Delay: 2 * time.Second, Limit: 20 * time.Second})
	slow := make(chan error, 1)
	go func() {
		_, err := ask(t, client, address+"/slow")
		slow <- err
	}()
	<-under
	stop()
	protocol, err := ask(t, client, address)
	if err != nil || protocol != 1 {
		t.Fatalf("during the delay: HTTP/%d %v, want HTTP/1.1", protocol, err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended before the pull did: %v", err)
	case <-time.After(3 * time.Second):
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the pull under way: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Before a server ends its clients are asked to go: a connection that is only closed may
// be closed under a request.
func TestConnectionsEndWithTheirAnswer(t *testing.T) {
	t.Parallel()
	client, address, stop, ended := served(t, func(http.ResponseWriter, *http.Request) {}, Drain{Delay: 3 * time.Second})
	last := func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.Close
	}
	if last() {
		t.Error("a connection ends while the server goes on")
	}
	stop()
	until(t, "a connection ends with its answer", last)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServerCutsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	under := make(chan struct{})
	client, address, stop, ended := served(t, func(_ http.ResponseWriter, r *http.Request) {
		close(under)
		<-r.Context().Done()
	}, Drain{Limit: 100 * time.Millisecond})
	go func() {
		<-under
		stop()
	}()
	if _, err := ask(t, client, address); err == nil {
		t.Error("answered")
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServerThatCannotServe(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	log := slog.New(slog.DiscardHandler)
	server := New(http.NotFoundHandler(), Config{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }, Log: log})
	if err := server.Serve(t.Context(), listener, Drain{}); err == nil {
		t.Error("no error")
	}
}
