package cert_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/d8-registry/registry/test/harness/cert"
)

// TestClientsTrustByName calls servers by TLS: a client trusts one for the CA it
// was given and for the names in the certificate.
func TestClientsTrustByName(t *testing.T) {
	t.Parallel()
	ca, err := cert.NewAuthority("ours")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := ca.ServerConfig("registry.example.test")
	if err != nil {
		t.Fatal(err)
	}
	own, ownPEM, err := cert.SelfSigned("127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	alone := &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
	for _, c := range []struct {
		name   string
		server *tls.Config
		trust  string
		want   bool
	}{
		{"signed by the CA", signed, ca.PEM, true},
		{"of another name", elsewhere, ca.PEM, false},
		{"self-signed", alone, ownPEM, true},
		{"of another CA", signed, ownPEM, false},
	} {
		if err := call(t, c.server, c.trust); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestClientCertificate signs in with a subject.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	ca, err := cert.NewAuthority("ours")
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.ServerConfig("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, pool(ca.PEM)
	if err := call(t, server, ca.PEM); err == nil {
		t.Error("a client without a certificate is let in")
	}
	certPEM, keyPEM, err := ca.Issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if err := call(t, server, ca.PEM, pair); err != nil {
		t.Error(err)
	}
}

func pool(pem string) *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(pem))
	return roots
}

func call(t *testing.T, config *tls.Config, trust string, own ...tls.Certificate) error {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = config.Clone()
	server.StartTLS()
	defer server.Close()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(trust), Certificates: own, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err == nil {
		_ = answer.Body.Close()
	}
	return err
}
