package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

// certLifetime is far longer than any test and short enough to be of no use
// to anybody who finds a file.
const certLifetime = 24 * time.Hour

// credentials are the server's files and what an administrator needs.
type credentials struct {
	caPEM, adminCert, adminKey []byte
}

// writeCredentials fills dir with ca.crt, apiserver.crt, apiserver.key and
// sa.key. The server's certificate is good for the given addresses.
func writeCredentials(dir string, addresses []net.IP) (credentials, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return credentials{}, fmt.Errorf("make CA key: %w", err)
	}
	ca := template(1, pkix.Name{CommonName: "apitest"})
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return credentials{}, fmt.Errorf("make CA: %w", err)
	}
	server := template(2, pkix.Name{CommonName: "kube-apiserver"})
	server.IPAddresses, server.DNSNames = addresses, []string{"localhost", "kubernetes.default.svc"}
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	serverCert, serverKey, err := issue(server, ca, caKey)
	if err != nil {
		return credentials{}, fmt.Errorf("make server certificate: %w", err)
	}
	admin := template(3, pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
	admin.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	adminCert, adminKey, err := issue(admin, ca, caKey)
	if err != nil {
		return credentials{}, fmt.Errorf("make administrator certificate: %w", err)
	}
	_, saKey, err := issue(template(4, pkix.Name{CommonName: "service-accounts"}), ca, caKey)
	if err != nil {
		return credentials{}, fmt.Errorf("make key of ServiceAccount tokens: %w", err)
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	var errs []error
	for name, data := range map[string][]byte{
		"ca.crt": caPEM, "apiserver.crt": serverCert, "apiserver.key": serverKey, "sa.key": saKey,
	} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	return credentials{caPEM: caPEM, adminCert: adminCert, adminKey: adminKey}, errors.Join(errs...)
}

func template(serial int64, subject pkix.Name) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// issue returns certificate and key as PEM.
func issue(cert, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, key.Public(), caKey)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}
