package precheck

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/transport"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// Names of a registry's certificate are in the error that it is for others: they
// reached conditions with their terminal escapes.
func TestErrorsArePrintable(t *testing.T) {
	t.Parallel()
	own, trust, err := cert.SelfSigned("evil\x1b[2J\x07\n- source: ours", strings.Repeat("long.", 4000)+"example")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	u := upstream.Upstream{Scheme: upstream.HTTPS, Host: strings.Replace(strings.TrimPrefix(server.URL, "https://"), "127.0.0.1", "localhost", 1), CA: trust}
	tr, err := transport.New(u)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+u.Host+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = judge.Registry{Upstream: u, Transport: tr}.Transport.RoundTrip(request) //nolint:bodyclose // there is none
	var host x509.HostnameError
	if !errors.As(err, &host) || !strings.Contains(err.Error(), "\x1b") {
		t.Fatalf("the certificate's names are not in the error: %.300q", text(err))
	}
	got := safe(err, u)
	if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) || len(got) > foreign.Sentence || !strings.Contains(got, "evil") {
		t.Errorf("not fit to be shown: %.500q", got)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
