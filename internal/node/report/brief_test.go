package report

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"testing"
	"time"
)

// TestBrief: every attempt has a new port, time or nonce; the words for it are
// the same.
func TestBrief(t *testing.T) {
	t.Parallel()
	get := func(port int, err error) error {
		return fmt.Errorf("reach b.example.com: %w", &url.Error{Op: "Get", URL: fmt.Sprintf("https://x/%d", port), Err: err})
	}
	tcp := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: port} }
	for want, attempt := range map[string]func(port int) error{
		"dial: connection refused": func(port int) error {
			return get(port, &net.OpError{Op: "dial", Net: "tcp", Source: tcp(port), Addr: tcp(443), Err: syscall.ECONNREFUSED})
		},
		"dial: i/o timeout": func(port int) error {
			return get(port, &net.OpError{Op: "proxyconnect", Net: "tcp", Err: &net.OpError{Op: "dial", Source: tcp(port), Err: errors.New("i/o timeout")}})
		},
		"read: connection reset by peer": func(port int) error {
			return get(port, &net.OpError{Op: "read", Net: "tcp", Source: tcp(port), Addr: tcp(443), Err: syscall.ECONNRESET})
		},
		"look up b.example.com: DNS does not answer": func(port int) error {
			return get(port, &net.OpError{Op: "dial", Err: &net.DNSError{
				Name: "b.example.com", IsTimeout: true, Err: fmt.Sprintf("read udp 10.0.0.5:%d->10.0.0.2:53: i/o timeout", port),
			}})
		},
		"look up b.example.com: no such host": func(int) error {
			return &net.DNSError{Name: "b.example.com", IsNotFound: true, Err: "no such host"}
		},
		"look up b.example.com: DNS failed": func(port int) error {
			return &net.DNSError{Name: "b.example.com", Err: fmt.Sprintf("read udp 10.0.0.5:%d->10.0.0.2:53: refused", port)}
		},
		"the certificate has expired or is not valid yet": func(port int) error {
			return get(port, x509.CertificateInvalidError{Reason: x509.Expired, Detail: time.Unix(int64(port), 0).String()})
		},
		"read tcp 10.0.0.7:443: strange": func(port int) error {
			return get(port, fmt.Errorf("read tcp 10.0.0.5:%d->10.0.0.7:443: strange", port))
		},
		"EOF": func(port int) error { return get(port, errors.New("EOF")) },
		"reach b.example.com: 502 Bad Gateway": func(int) error {
			return errors.New("reach b.example.com: 502 Bad Gateway")
		},
	} {
		for _, port := range []int{40312, 51234} {
			if got := Brief(attempt(port)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}
