package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRequest(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"registry.d8-system.svc", "10.0.0.1", "fd00::1"}
	text, err := Request(key, names)
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 || strings.Contains(text, "PRIVATE") {
		t.Fatal(text)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		t.Fatal(err)
	}
	got := slices.Clone(request.DNSNames)
	for _, ip := range request.IPAddresses {
		got = append(got, ip.String())
	}
	if !slices.Equal(got, names) {
		t.Errorf("asks for %q", got)
	}
	if again, err := Request(key, names); err != nil || again != text {
		t.Errorf("another text for the same: %v", err)
	}
	if other, err := Request(key, names[:1]); err != nil || other == text {
		t.Errorf("the same text for other names: %v", err)
	}
	for _, bad := range []string{"", "no PEM", strings.Replace(key, "M", "N", 1)} {
		if _, err := Request(bad, names); err == nil || strings.Contains(err.Error(), key[30:60]) {
			t.Errorf("%v", err)
		}
	}
}

// TestAnswer: who signs decides about names, and a request that was tampered with is none.
func TestAnswer(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := Request(key, []string{"deckhouse.io", "10.0.0.9"})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := Answer(start, ca, request, []string{"10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	pair := KeyPair{Cert: cert, Key: key}
	if err := pair.Belongs(); err != nil || !Signed(ca.Cert, cert) || !pair.serves(start, ca, []string{"10.0.0.1"}) {
		t.Errorf("%v", err)
	}
	block, _ := pem.Decode([]byte(cert))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(leaf.DNSNames) != 0 || leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
		t.Errorf("%+v, %v", leaf, err)
	}
	if err := (KeyPair{Cert: newCA(t).Cert, Key: key}).Belongs(); err == nil {
		t.Error("any certificate belongs to the key")
	}
	block, _ = pem.Decode([]byte(request))
	block.Bytes[len(block.Bytes)-1] ^= 1
	for _, bad := range []string{"", cert, string(pem.EncodeToMemory(block))} {
		if _, err := Answer(start, ca, bad, nil); err == nil {
			t.Errorf("signed: %q", bad)
		}
	}
}

// What a node reports as its request is kept by others: nothing but PEM comes through.
func TestCleanRequest(t *testing.T) {
	t.Parallel()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := Request(key, []string{"10.0.0.1", "registry.d8-system.svc"})
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct{ given, want string }{
		"ours":           {request, request},
		"with more":      {"\x1b[2J\n" + request + "\x1b[2J", request},
		"another type":   {strings.ReplaceAll(request, "CERTIFICATE REQUEST", "\x1b[2J"), request},
		"with headers":   {strings.Replace(request, "-----\n", "-----\nA: \x1b[2J\n\n", 1), request},
		"none":           {"\x1b[2J", ""},
		"nothing":        {"", ""},
		"far too long":   {request + strings.Repeat("x", 1<<14), ""},
		"long in itself": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: make([]byte, 1<<14)})), ""},
	} {
		if got := CleanRequest(row.given); got != row.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestEnsureAnswer: a certificate stays while it is good, for the key and the names of now, and
// is replaced as other leaves are. What cannot be signed leaves the one that serves.
func TestEnsureAnswer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	ca, errCA := NewCA(now, []string{"registry.d8-system.svc"})
	other, errOther := NewCA(now, nil)
	key, errKey := NewKey()
	second, errSecond := NewKey()
	request, errRequest := Request(key, []string{"evil.example.com"})
	next, errNext := Request(second, nil)
	if err := errors.Join(errCA, errOther, errKey, errSecond, errRequest, errNext); err != nil {
		t.Fatal(err)
	}
	names := []string{"registry.d8-system.svc", "10.0.0.1", "registry-local.d8-system.svc"} // the CA refuses the last
	first, err := EnsureAnswer(now, ca, "", request, names)
	if err != nil || (KeyPair{first, key}).Belongs() != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(first))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !slices.Equal(cert.DNSNames, names[:1]) || len(cert.IPAddresses) != 1 {
		t.Errorf("%v %v, %v", cert.DNSNames, cert.IPAddresses, err)
	}
	for name, row := range map[string]struct {
		at      time.Time
		ca      KeyPair
		request string
		names   []string
		same    bool
		err     error
	}{
		"as it was":           {now, ca, request, names, true, nil},
		"later":               {now.Add(LeafLife / 2), ca, request, names, true, nil},
		"a third is left":     {now.Add(LeafLife*2/3 + time.Hour), ca, request, names, false, nil},
		"it has expired":      {now.Add(2 * LeafLife), ca, request, names, false, nil},
		"another key":         {now, ca, next, names, false, nil},
		"another CA":          {now, other, request, names, false, nil},
		"another address":     {now, ca, request, []string{"registry.d8-system.svc", "10.0.0.2"}, false, nil},
		"the CA has expired":  {now.Add(2 * CALife), ca, request, names, true, ErrExpired},
		"before the CA":       {now.Add(-CALife), ca, request, names, true, ErrEarly},
		"no CA":               {now, KeyPair{}, request, names, true, ErrDamaged},
		"no request any more": {now, ca, "", names, true, errAny},
	} {
		got, err := EnsureAnswer(row.at, row.ca, first, row.request, row.names)
		if (got == first) != row.same || (row.err == nil) != (err == nil) || (err != nil && !errors.Is(row.err, errAny) && !errors.Is(err, row.err)) {
			t.Errorf("%s: the same: %v, %v", name, got == first, err)
		}
		if again, err := EnsureAnswer(row.at, row.ca, got, row.request, row.names); row.err == nil && (err != nil || again != got) {
			t.Errorf("%s: each time another one, %v", name, err)
		}
	}
}

var errAny = errors.New("any")
