// Package cert makes the certificates of tests and of the demo: a private CA,
// what it signs, and certificates that are their own CA.
package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validDays is longer than anybody leaves a demo running.
const validDays = 365

// Authority is a private CA.
type Authority struct {
	// PEM is what clients trust.
	PEM  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes a CA.
func NewAuthority(name string) (*Authority, error) {
	template := certificate(pkix.Name{CommonName: name}, nil)
	template.IsCA, template.ExtKeyUsage = true, nil
	template.KeyUsage |= x509.KeyUsageCertSign
	der, key, err := sign(template, nil)
	if err != nil {
		return nil, err
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return &Authority{cert: signed, key: key, PEM: string(encode("CERTIFICATE", der))}, nil
}

// SelfSigned makes a server's certificate that is its own CA, and the PEM by
// which clients trust it. Names are DNS names and IP addresses.
func SelfSigned(names ...string) (tls.Certificate, string, error) {
	template := certificate(pkix.Name{CommonName: "self-signed"}, names)
	template.IsCA = true
	template.KeyUsage |= x509.KeyUsageCertSign
	der, key, err := sign(template, nil)
	if err != nil {
		return tls.Certificate{}, "", err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(encode("CERTIFICATE", der)), nil
}

// Issue makes a certificate for a client (the subject) and a server (DNS names
// and IP addresses), as PEM.
func (a *Authority) Issue(subject pkix.Name, names ...string) (cert, key []byte, err error) {
	der, private, err := sign(certificate(subject, names), a)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("key of %s: %w", subject.CommonName, err)
	}
	return encode("CERTIFICATE", der), encode("EC PRIVATE KEY", keyDER), nil
}

// WriteServer writes tls.crt and tls.key of a server into a folder, made if need be.
func (a *Authority) WriteServer(dir string, names ...string) error {
	cert, key, err := a.Issue(pkix.Name{CommonName: names[0]}, names...)
	if err != nil {
		return err
	}
	return errors.Join(
		os.MkdirAll(dir, 0o750),
		os.WriteFile(filepath.Join(dir, "tls.crt"), cert, 0o644),
		os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
}

// ServerConfig is WriteServer for a server of our own process.
func (a *Authority) ServerConfig(names ...string) (*tls.Config, error) {
	cert, key, err := a.Issue(pkix.Name{CommonName: names[0]}, names...)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", names[0], err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

func certificate(subject pkix.Name, names []string) *x509.Certificate {
	c := &x509.Certificate{
		Subject:   subject,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, validDays),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, name)
		}
	}
	return c
}

// sign makes a key and signs its certificate, with its own key if there is no CA.
func sign(template *x509.Certificate, ca *Authority) (der []byte, key *ecdsa.PrivateKey, err error) {
	name := template.Subject.CommonName
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("key of %s: %w", name, err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return nil, nil, fmt.Errorf("serial number of %s: %w", name, err)
	}
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer); err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	return der, key, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
