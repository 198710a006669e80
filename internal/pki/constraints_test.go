package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// forge signs a leaf for any names, as somebody does who has stolen the CA's key.
func forge(t *testing.T, ca KeyPair, names ...string) KeyPair {
	t.Helper()
	cert, signer, err := ca.parse()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: leafName}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf, err := sign(template, cert, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// What the module and the agent issue is taken, and what a thief of their keys signs
// for other hosts is refused, by Go and so by containerd, by OpenSSL and by curl.
func TestACAsKeyIsOfUseForItsNamesOnly(t *testing.T) {
	t.Parallel()
	module := ServiceNames("cluster.local")
	agent := []string{"127.0.0.1", "localhost"}
	for _, c := range []struct {
		of    []string
		names []string
		ok    bool
	}{
		{module, ServiceNames("cluster.local", "10.96.0.17", "34.118.224.9", "fd00::17"), true},
		{module, []string{"registry.d8-system.svc"}, true},
		{module, []string{"kubernetes.default.svc"}, false},
		{module, []string{"registry.example.com"}, false},
		{module, []string{"github.com", "registry.d8-system.svc"}, false},
		{module, []string{"xregistry.d8-system.svc"}, false},
		{module, []string{"d8-system.svc"}, false},
		{agent, []string{"127.0.0.1"}, true},
		{agent, []string{"10.0.0.1"}, false},
		{agent, []string{"::1"}, false},
		{agent, []string{"registry.example.com"}, false},
		{nil, []string{"anything.example.com", "10.0.0.1"}, true}, // a CA of an older version
	} {
		ca, err := NewCA(time.Now(), c.of)
		if err != nil {
			t.Fatal(err)
		}
		leaf := forge(t, ca, c.names...)
		for reader, err := range map[string]error{"Go": goTakes(ca, leaf), "OpenSSL": opensslTakes(t, ca, leaf), "curl": curlTakes(t, ca, leaf, c.names[0])} {
			if (err == nil) != c.ok {
				t.Errorf("CA for %v, leaf for %v: %s says %v", c.of, c.names, reader, err)
			}
		}
		if refused := ca.Refused(c.names); (len(refused) == 0) != c.ok {
			t.Errorf("CA for %v, leaf for %v: Refused gives %v", c.of, c.names, refused)
		}
	}
}

func goTakes(ca, leaf KeyPair) error {
	caCert, _, err := ca.parse()
	if err != nil {
		return err
	}
	cert, _, err := leaf.parse()
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(caCert)
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots})
	return err
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func opensslTakes(t *testing.T, ca, leaf KeyPair) error {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		return goTakes(ca, leaf) // this machine has none
	}
	return exec.CommandContext(t.Context(), "openssl", "verify", "-purpose", "sslserver", "-CAfile", write(t, "ca.crt", ca.Cert), write(t, "leaf.crt", leaf.Cert)).Run()
}

// curlTakes asks a server that shows the leaf, by name.
func curlTakes(t *testing.T, ca, leaf KeyPair, name string) error {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		return goTakes(ca, leaf) // this machine has none
	}
	var r Reloader
	if err := r.Set([]byte(leaf.Cert), []byte(leaf.Key)); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: r.GetCertificate, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	stop := context.AfterFunc(t.Context(), func() { _ = listener.Close() })
	defer stop()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if conn.(*tls.Conn).HandshakeContext(t.Context()) == nil {
			_, _ = conn.Read(make([]byte, 1024))
			_, _ = conn.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"))
		}
	}()
	host := name
	if strings.Contains(name, ":") {
		host = "[" + name + "]"
	}
	return exec.CommandContext(t.Context(), "curl", "--silent", "--noproxy", "*", "--max-time", "10", "--cacert", write(t, "ca.crt", ca.Cert),
		"--connect-to", "::"+listener.Addr().String(), "https://"+host+"/").Run()
}

// One name too many would make a leaf useless for all of them: it is left out. It
// happens when the cluster's DNS domain is set to another one.
func TestALeafHasNoNameThatItsCARefuses(t *testing.T) {
	t.Parallel()
	ca, _, err := EnsureCA(start, KeyPair{}, ServiceNames("cluster.local"))
	if err != nil {
		t.Fatal(err)
	}
	want := ServiceNames("other.domain", "10.96.0.17")
	leaf, _, err := EnsureLeaf(start, ca, KeyPair{}, want)
	if err != nil {
		t.Fatal(err)
	}
	if got := ca.Refused(want); !slices.Equal(got, []string{"registry.d8-system.svc.other.domain"}) {
		t.Errorf("refused %v", got)
	}
	if !leaf.serves(start, ca, ServiceNames("", "10.96.0.17")) {
		t.Error("the leaf does not serve the names that are left")
	}
	if _, changed, _ := EnsureLeaf(start, ca, leaf, want); changed {
		t.Error("it is made anew at every pass")
	}
}
