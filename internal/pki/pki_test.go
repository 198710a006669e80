package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newCA(t *testing.T) KeyPair {
	t.Helper()
	ca, changed, err := EnsureCA(start, KeyPair{}, nil)
	if err != nil || !changed {
		t.Fatalf("EnsureCA of nothing: changed %v, %v", changed, err)
	}
	return ca
}

func TestCAIsKeptWhileItCanSign(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	for _, later := range []time.Duration{0, time.Hour, CALife - time.Hour} {
		got, changed, err := EnsureCA(start.Add(later), ca, nil)
		if err != nil || changed || got != ca {
			t.Errorf("after %v: changed %v, %v", later, changed, err)
		}
	}
	if _, changed, err := EnsureCA(start.Add(CALife+time.Hour), ca, nil); changed || !errors.Is(err, ErrExpired) {
		t.Errorf("an expired CA must not be replaced silently: changed %v, %v", changed, err)
	}
}

func TestADamagedCAIsNotReplaced(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	leaf, _, err := EnsureLeaf(start, ca, KeyPair{}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string]KeyPair{
		"no PEM":         {Cert: "x", Key: ca.Key},
		"no key":         {Cert: ca.Cert},
		"another's key":  {Cert: ca.Cert, Key: other.Key},
		"leaf, not a CA": leaf,
	} {
		got, changed, err := EnsureCA(start, broken, nil)
		if !errors.Is(err, ErrDamaged) || changed || got != broken {
			t.Errorf("%s: changed %v, %v", name, changed, err)
		}
	}
}

func TestLeafIsReissuedOnlyWhenItMust(t *testing.T) {
	t.Parallel()
	ca, other := newCA(t), newCA(t)
	names := ServiceNames("cluster.local", "10.96.0.17", "fd00::17")
	leaf, _, err := EnsureLeaf(start, ca, KeyPair{}, names)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		after   time.Duration
		ca      KeyPair
		names   []string
		reissue bool
	}{
		{"nothing changed", 0, ca, names, false},
		{"half its life", LeafLife / 2, ca, names, false},
		{"names in another order", 0, ca, []string{"fd00:0::17", names[1], names[0], "10.96.0.17"}, false},
		{"near its end", LeafLife * 3 / 4, ca, names, true},
		{"another IP", 0, ca, ServiceNames("cluster.local", "10.96.0.18"), true},
		{"another CA", 0, other, names, true},
	} {
		now := start.Add(c.after)
		got, changed, err := EnsureLeaf(now, c.ca, leaf, c.names)
		if err != nil || changed != c.reissue || (got != leaf) != c.reissue {
			t.Errorf("%s: changed %v, want %v, %v", c.name, changed, c.reissue, err)
		}
		if !got.serves(now, c.ca, c.names) {
			t.Errorf("%s: the result does not serve", c.name)
		}
	}
	if _, _, err := EnsureLeaf(start, KeyPair{}, leaf, names); err == nil {
		t.Error("a leaf was issued without a CA")
	}
}

func TestLeafNeverOutlivesItsCA(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	late := start.Add(CALife - 30*24*time.Hour)
	leaf, _, err := EnsureLeaf(late, ca, KeyPair{}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	// Near the CA's end no longer leaf can be had: it must not be reissued at
	// every pass.
	if _, changed, _ := EnsureLeaf(late.Add(25*24*time.Hour), ca, leaf, []string{"a"}); changed {
		t.Error("reissued although it already ends with its CA")
	}
}

func TestReloaderServesTheNewestGoodLeaf(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	var r Reloader
	if _, err := r.GetCertificate(nil); err == nil {
		t.Error("an empty reloader gave a certificate")
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: r.GetCertificate, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).HandshakeContext(t.Context())
			_ = conn.Close()
		}
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca.Cert))
	trusts := func(name string) error {
		dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}}
		conn, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	for _, name := range []string{"registry.d8-system.svc", "10.96.0.17"} {
		leaf, _, err := EnsureLeaf(time.Now(), ca, KeyPair{}, []string{name})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Set([]byte(leaf.Cert), []byte(leaf.Key)); err != nil {
			t.Fatal(err)
		}
		if err := r.Set([]byte(leaf.Cert), []byte("x")); err == nil {
			t.Error("half a pair was taken")
		}
		if err := trusts(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := trusts("registry.d8-system.svc"); err == nil {
		t.Error("the old leaf is still served")
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	for _, printed := range []string{fmt.Sprint(ca), fmt.Sprintf("%#v", ca), fmt.Sprintf("%+v", ca), ca.LogValue().String()} {
		if strings.Contains(printed, "PRIVATE") {
			t.Errorf("printed: %s", printed)
		}
	}
}

func TestPasswordsAreLongAndDiffer(t *testing.T) {
	t.Parallel()
	a, errA := NewPassword()
	b, errB := NewPassword()
	if errA != nil || errB != nil || a == b || len(a) < 43 {
		t.Errorf("%d characters, equal %v, %v %v", len(a), a == b, errA, errB)
	}
}

func TestServiceNamesSkipsWhatIsNoIP(t *testing.T) {
	t.Parallel()
	got := ServiceNames("", "None", "", "10.0.0.1")
	if len(got) != 2 || net.ParseIP(got[1]) == nil {
		t.Errorf("got %v", got)
	}
}
