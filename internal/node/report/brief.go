package report

import (
	"crypto/x509"
	"errors"
	"net"
	"net/url"

	"github.com/d8-registry/registry/internal/foreign"
)

// Brief is the cause of a failed request, in words that stay the same as long as
// the cause does. A report is written to the API server whenever it changes: with
// a port or a time in it, every attempt of every node would be a write. Registries
// and users' files have a say in it.
func Brief(err error) string { return foreign.Line(cause(err), foreign.Sentence) }

func cause(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		switch {
		case dns.IsNotFound:
			return "look up " + dns.Name + ": no such host"
		case dns.IsTimeout:
			return "look up " + dns.Name + ": DNS does not answer"
		}
		return "look up " + dns.Name + ": DNS failed"
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return "the certificate has expired or is not valid yet"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		for inner := op; errors.As(inner.Err, &inner); {
			op = inner
		}
		return op.Op + ": " + foreign.Stable(op.Err.Error())
	}
	var asked *url.Error
	if errors.As(err, &asked) { // its address has the proof's nonce
		err = asked.Err
	}
	return foreign.Stable(err.Error())
}
