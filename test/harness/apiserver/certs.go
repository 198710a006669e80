package apiserver

import (
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"

	"github.com/d8-registry/registry/test/harness/cert"
)

// credentials are what an administrator needs.
type credentials struct {
	caPEM, adminCert, adminKey []byte
}

// writeCredentials fills dir with ca.crt, tls.crt, tls.key and sa.key. The
// server's certificate is good for the given addresses.
func writeCredentials(dir string, addresses ...string) (credentials, error) {
	ca, err := cert.NewAuthority("apiserver")
	if err != nil {
		return credentials{}, err
	}
	if err := ca.WriteServer(dir, append([]string{"kubernetes.default.svc", "localhost"}, addresses...)...); err != nil {
		return credentials{}, err
	}
	adminCert, adminKey, err := ca.Issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
	if err != nil {
		return credentials{}, err
	}
	_, tokenKey, err := ca.Issue(pkix.Name{CommonName: "service-accounts"})
	if err != nil {
		return credentials{}, err
	}
	return credentials{caPEM: []byte(ca.PEM), adminCert: adminCert, adminKey: adminKey}, errors.Join(
		os.WriteFile(filepath.Join(dir, "ca.crt"), []byte(ca.PEM), 0o600),
		os.WriteFile(filepath.Join(dir, "sa.key"), tokenKey, 0o600))
}
