package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// NewKey is a private key as PEM, for one who asks for a certificate and keeps the key.
func NewKey() (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("encode a key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// Request asks for a certificate for these DNS names and IPs, as PEM. It is the same text
// each time, so that who reports it has nothing new to say. What is signed in the end is
// decided by who signs.
func Request(key string, names []string) (string, error) {
	parsed, err := parseKey(key)
	if err != nil {
		return "", err
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: leafName}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificateRequest(nil, template, parsed) // without chance: RFC 6979
	if err != nil {
		return "", fmt.Errorf("ask for a certificate: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// mostRequest is more than a request of ours has, in bytes.
const mostRequest = 8 << 10

// CleanRequest is a request that somebody else passes on, as Request writes it: nothing but
// PEM. What is no request, or is too long for one, is empty.
func CleanRequest(text string) string {
	if len(text) > mostRequest {
		return ""
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: block.Bytes}))
}

// Answer is a certificate for the key of a request, as PEM: for these names, whatever the
// request asks for, as a server and as a client.
func Answer(now time.Time, ca KeyPair, request string, names []string) (string, error) {
	caCert, caKey, err := ca.parse()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	key, err := keyOf(request)
	if err != nil {
		return "", err
	}
	return certify(leafFor(now, caCert, names, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth), caCert, key, caKey)
}

// EnsureAnswer returns the certificate that it was given, if it is for the key of the request
// and as good as EnsureLeaf wants one; else a new one. Names that the CA cannot sign for are
// left out. With an error it is the one that was given, which may serve on.
func EnsureAnswer(now time.Time, ca KeyPair, cert, request string, names []string) (string, error) {
	caCert, _, err := ca.parse()
	switch {
	case err != nil:
		return cert, fmt.Errorf("%w: %w", ErrDamaged, err)
	case now.After(caCert.NotAfter):
		return cert, fmt.Errorf("%s: %w", caCert.NotAfter.Format(time.DateOnly), ErrExpired)
	case now.Before(caCert.NotBefore):
		return cert, fmt.Errorf("%s: %w", now.Format(time.DateOnly), ErrEarly)
	}
	refused := ca.Refused(names)
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(refused, name) })
	key, err := keyOf(request)
	if err != nil {
		return cert, err
	}
	if block, _ := pem.Decode([]byte(cert)); block != nil {
		if have, err := x509.ParseCertificate(block.Bytes); err == nil && key.Equal(have.PublicKey) && serves(now, have, caCert, names) {
			return cert, nil
		}
	}
	fresh, err := Answer(now, ca, request, names)
	if err != nil {
		return cert, err
	}
	return fresh, nil
}

// keyOf is the key of a request, whose sender has it.
func keyOf(request string) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode([]byte(request))
	if block == nil {
		return nil, errors.New("the request is no PEM")
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = asked.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("read a request: %w", err)
	}
	key, ok := asked.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the request is for a key of another kind")
	}
	return key, nil
}

// Belongs reports why certificate and key do not belong together. Of a chain the first
// certificate counts.
func (p KeyPair) Belongs() error {
	_, _, err := p.parse()
	return err
}
