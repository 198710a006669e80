package pki

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"time"
)

// Expires is when a certificate ends; zero if it cannot be read.
func (p KeyPair) Expires() time.Time {
	block, _ := pem.Decode([]byte(p.Cert))
	if block == nil {
		return time.Time{}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}

// Ends reports whether a CA should be replaced, for its age or because it cannot
// sign: less than a third of its life is left.
func (p KeyPair) Ends(now time.Time) bool {
	cert, _, err := p.parse()
	return err != nil || cert.NotAfter.Sub(now) < CALife/3
}

// Signed reports whether a certificate is of one of these CAs, however old all are.
func Signed(bundle, cert string) bool {
	block, _ := pem.Decode([]byte(cert))
	if block == nil {
		return false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	return err == nil && slices.ContainsFunc(certificates(bundle), func(one string) bool {
		block, _ := pem.Decode([]byte(one))
		ca, err := x509.ParseCertificate(block.Bytes)
		return err == nil && leaf.CheckSignatureFrom(ca) == nil
	})
}

// Bundle is the certificates of several PEM texts, each once and in order. What is
// no certificate is left out: a client that cannot read one of them trusts none.
func Bundle(texts ...string) string {
	var b strings.Builder
	seen := map[string]bool{}
	for _, text := range texts {
		for _, one := range certificates(text) {
			if !seen[one] {
				seen[one] = true
				b.WriteString(one)
			}
		}
	}
	return b.String()
}

// Pick takes a CA with its key out of a bundle. The others are what else was in it.
// If the key belongs to none, all is left as it was.
func Pick(bundle KeyPair) (ca KeyPair, others string) {
	all := certificates(bundle.Cert)
	for i, one := range all {
		ca := KeyPair{Cert: one, Key: bundle.Key}
		if _, _, err := ca.parse(); err == nil && len(all) > 1 {
			return ca, Bundle(append(all[:i:i], all[i+1:]...)...)
		}
	}
	return bundle, ""
}

func certificates(text string) []string {
	var all []string
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if _, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			all = append(all, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
		}
	}
	return all
}
