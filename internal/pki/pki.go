package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"
)

// How long certificates live. A leaf is reissued when a third of its life is
// left; a CA is never replaced here, only by a rotation.
const (
	CALife   = 10 * 365 * 24 * time.Hour
	LeafLife = 365 * 24 * time.Hour
	// backdate is for clients whose clocks are behind ours.
	backdate = time.Hour
)

const (
	caName   = "registry-ca"
	leafName = "registry-distribution"
	service  = "registry.d8-system.svc"
)

// ErrExpired says that a CA has expired: clients refuse all that it signed, and
// only a rotation helps. ErrDamaged says that what should be a CA cannot sign,
// ErrEarly that the CA is younger than the time that the clock tells.
var (
	ErrExpired = errors.New("the CA has expired")
	ErrDamaged = errors.New("this is no CA that can sign")
	ErrEarly   = errors.New("the clock is before the beginning of the CA")
)

// KeyPair is a certificate and its private key, PEM-encoded. Nothing prints
// the key.
type KeyPair struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// IsZero reports whether there is nothing in it.
func (p KeyPair) IsZero() bool { return p == KeyPair{} }

// String hides the key.
func (p KeyPair) String() string {
	if p.IsZero() {
		return "none"
	}
	return "redacted"
}

// GoString hides the key from %#v.
func (p KeyPair) GoString() string { return "pki.KeyPair(" + p.String() + ")" }

// LogValue hides the key from slog.
func (p KeyPair) LogValue() slog.Value { return slog.StringValue(p.String()) }

// ServiceNames are the names under which clients call the in-cluster proxy: the
// Service's short and cluster-domain form, and its IPs for nodes, whose DNS knows
// no cluster names.
func ServiceNames(clusterDomain string, ips ...string) []string {
	names := []string{service}
	if clusterDomain != "" {
		names = append(names, service+"."+clusterDomain)
	}
	for _, ip := range ips {
		if net.ParseIP(ip) != nil {
			names = append(names, ip)
		}
	}
	return names
}

// EnsureCA returns the CA it was given, or a new one for names if there is none;
// the second result says which. A CA of an older version may sign for any name. A
// CA that has expired is an ErrExpired, one that cannot sign an ErrDamaged, one that is
// not valid yet an ErrEarly: none is replaced, because every client that trusts it would
// be cut off.
func EnsureCA(now time.Time, ca KeyPair, names []string) (KeyPair, bool, error) {
	if ca.IsZero() {
		fresh, err := NewCA(now, names)
		return fresh, true, err
	}
	cert, _, err := ca.parse()
	switch {
	case err != nil:
		return ca, false, fmt.Errorf("%w: %w", ErrDamaged, err)
	case !cert.IsCA:
		return ca, false, fmt.Errorf("%w: it is a leaf", ErrDamaged)
	case now.Before(cert.NotBefore):
		return ca, false, fmt.Errorf("%s: %w", now.Format(time.DateOnly), ErrEarly)
	case now.After(cert.NotAfter):
		return ca, false, fmt.Errorf("%s: %w", cert.NotAfter.Format(time.DateOnly), ErrExpired)
	}
	return ca, false, nil
}

// NewCA makes a CA, ECDSA P-256, that lives for CALife. Of the kinds of names that
// are given, DNS names or IPs, it can sign for these only, and for what is below a
// DNS name: who steals its key cannot be another host to those that trust it. A kind
// of which there is none is not limited.
func NewCA(now time.Time, names []string) (KeyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return KeyPair{}, fmt.Errorf("make CA key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: caName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(CALife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,

		PermittedDNSDomainsCritical: len(names) > 0, // of IPs too
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.PermittedIPRanges = append(template.PermittedIPRanges, single(ip))
		} else {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, name)
		}
	}
	return sign(template, template, key, key)
}

// single is the network of one address.
func single(ip net.IP) *net.IPNet {
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	return &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))}
}

// Refused are the names that a CA cannot sign for. A leaf with one of them would be
// refused by every client, whatever name it calls.
func (p KeyPair) Refused(names []string) []string {
	cert, _, err := p.parse()
	if err != nil {
		return nil // it signs nothing at all
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return permits(cert, name) })
}

func permits(ca *x509.Certificate, name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		return len(ca.PermittedIPRanges) == 0 || slices.ContainsFunc(ca.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip) })
	}
	return len(ca.PermittedDNSDomains) == 0 || slices.ContainsFunc(ca.PermittedDNSDomains, func(domain string) bool {
		return strings.EqualFold(name, domain) || strings.HasSuffix(strings.ToLower(name), "."+strings.ToLower(domain))
	})
}

// EnsureLeaf returns the leaf it was given if it chains to the CA, names
// exactly names (DNS names or IPs) and has more than a third of its life left;
// else a new one. The second result says which. Names that the CA cannot sign for
// are left out, see Refused. With an error the leaf is the one that was given: a
// new one of a CA that has expired, or by a clock that is behind the CA's first day,
// would serve nobody, and be made anew each time.
func EnsureLeaf(now time.Time, ca, leaf KeyPair, names []string) (KeyPair, bool, error) {
	refused := ca.Refused(names)
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(refused, name) })
	if leaf.serves(now, ca, names) {
		return leaf, false, nil
	}
	caCert, caKey, err := ca.parse()
	switch {
	case err != nil:
		return leaf, false, fmt.Errorf("%w: %w", ErrDamaged, err)
	case !leaf.IsZero() && now.After(caCert.NotAfter):
		return leaf, false, fmt.Errorf("%s: %w", caCert.NotAfter.Format(time.DateOnly), ErrExpired)
	case !leaf.IsZero() && now.Before(caCert.NotBefore):
		return leaf, false, fmt.Errorf("%s: %w", now.Format(time.DateOnly), ErrEarly)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return leaf, false, fmt.Errorf("make leaf key: %w", err)
	}
	template := leafFor(now, caCert, names, x509.ExtKeyUsageServerAuth)
	fresh, err := sign(template, caCert, key, caKey)
	return fresh, true, err
}

// leafFor is a leaf for names, without a key. It ends with its CA, if that ends sooner.
func leafFor(now time.Time, ca *x509.Certificate, names []string, usages ...x509.ExtKeyUsage) *x509.Certificate {
	end := now.Add(LeafLife)
	if end.After(ca.NotAfter) && ca.NotAfter.After(now) {
		end = ca.NotAfter
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: leafName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           usages,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return template
}

// NewPassword is 256 random bits, in characters that need no quoting in TOML,
// YAML, a shell or a URL.
func NewPassword() (string, error) {
	bits := make([]byte, 32)
	if _, err := rand.Read(bits); err != nil {
		return "", fmt.Errorf("make a password: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(bits), nil
}

func (p KeyPair) serves(now time.Time, ca KeyPair, names []string) bool {
	cert, _, err := p.parse()
	if err != nil {
		return false
	}
	caCert, _, err := ca.parse()
	return err == nil && serves(now, cert, caCert, names)
}

func serves(now time.Time, cert, caCert *x509.Certificate, names []string) bool {
	roots := x509.NewCertPool()
	roots.AddCert(caCert)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return false
	}
	// A leaf that ends with its CA cannot live longer.
	life := cert.NotAfter.Sub(cert.NotBefore)
	if cert.NotAfter.Sub(now) < life/3 && !cert.NotAfter.Equal(caCert.NotAfter) {
		return false
	}
	have := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		have = append(have, ip.String())
	}
	want := make([]string, 0, len(names))
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			name = ip.String()
		}
		want = append(want, name)
	}
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want)
}

// parse decodes both halves and makes sure that they belong together.
func (p KeyPair) parse() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(p.Cert))
	if block == nil {
		return nil, nil, errors.New("the certificate is no PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("parse certificate: %w", err)
	}
	key, err := parseKey(p.Key)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, errors.New("certificate and key do not belong together")
	}
	return cert, key, nil
}

func parseKey(text string) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the key is no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key is no PKCS #8 key") // the cause may quote the key
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key is of another kind")
	}
	return key, nil
}

func sign(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (KeyPair, error) {
	cert, err := certify(template, parent, &key.PublicKey, signer)
	if err != nil {
		return KeyPair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return KeyPair{}, fmt.Errorf("encode key of %s: %w", template.Subject.CommonName, err)
	}
	return KeyPair{Cert: cert, Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))}, nil
}

func certify(template, parent *x509.Certificate, key *ecdsa.PublicKey, signer *ecdsa.PrivateKey) (string, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return "", fmt.Errorf("make a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return "", fmt.Errorf("sign %s: %w", template.Subject.CommonName, err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}
