package pki

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
)

// Reloader gives a TLS server its certificate and lets it be replaced while
// connections are open. The zero Reloader has none and refuses handshakes.
type Reloader struct {
	current atomic.Pointer[tls.Certificate]
}

// Set replaces the certificate; both halves are PEM. If they are no pair the
// present one stays.
func (r *Reloader) Set(certPEM, keyPEM []byte) error {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("read server certificate: %w", err)
	}
	r.current.Store(&cert)
	return nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (r *Reloader) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := r.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("no server certificate was loaded yet")
}
