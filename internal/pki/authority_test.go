package pki

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A CA that has expired, and a clock that is behind it, give no new leaf: it would be
// refused by all, and made anew at each pass.
func TestNoLeafThatServesNobody(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	leaf, _, err := EnsureLeaf(start, ca, KeyPair{}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		at   time.Time
		want error
	}{{start.Add(CALife + time.Hour), ErrExpired}, {start.Add(-CALife), ErrEarly}} {
		got, changed, err := EnsureLeaf(c.at, ca, leaf, []string{"b"})
		if !errors.Is(err, c.want) || changed || got != leaf {
			t.Errorf("at %s: changed %v, %v", c.at, changed, err)
		}
		// Without any the proxy would not start.
		if got, changed, err := EnsureLeaf(c.at, ca, KeyPair{}, []string{"a"}); err != nil || !changed || got.IsZero() {
			t.Errorf("at %s, without one: changed %v, %v", c.at, changed, err)
		}
	}
	if got, changed, err := EnsureLeaf(start, KeyPair{Cert: ca.Cert}, leaf, []string{"b"}); !errors.Is(err, ErrDamaged) || changed || got != leaf {
		t.Errorf("of a CA without key: changed %v, %v", changed, err)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	for after, want := range map[time.Duration]bool{0: false, CALife / 2: false, CALife * 3 / 4: true, 2 * CALife: true, -CALife: false} {
		if got := ca.Ends(start.Add(after)); got != want {
			t.Errorf("after %s: %v", after, got)
		}
	}
	if !(KeyPair{Cert: ca.Cert}).Ends(start) {
		t.Error("a CA that cannot sign need not be replaced")
	}
	if at := ca.Expires(); !at.Equal(start.Add(CALife)) || !(KeyPair{Cert: "x"}).Expires().IsZero() {
		t.Errorf("expires at %s", at)
	}
}

// TestPick takes a CA out of the bundle that a rotation shows.
func TestPick(t *testing.T) {
	t.Parallel()
	a, b := newCA(t), newCA(t)
	if got := Bundle(a.Cert, "x", a.Cert+b.Key+b.Cert); got != a.Cert+b.Cert {
		t.Errorf("the bundle is %s", strings.ReplaceAll(got, b.Key, "KEY"))
	}
	for name, c := range map[string]struct {
		from, want KeyPair
		others     string
	}{
		"alone":    {a, a, ""},
		"first":    {KeyPair{Cert: a.Cert + b.Cert, Key: a.Key}, a, b.Cert},
		"last":     {KeyPair{Cert: a.Cert + b.Cert, Key: b.Key}, b, a.Cert},
		"no key":   {KeyPair{Cert: a.Cert + b.Cert}, KeyPair{Cert: a.Cert + b.Cert}, ""},
		"nothing":  {KeyPair{}, KeyPair{}, ""},
		"no certs": {KeyPair{Cert: "x", Key: a.Key}, KeyPair{Cert: "x", Key: a.Key}, ""},
	} {
		if got, others := Pick(c.from); got != c.want || others != c.others {
			t.Errorf("%s: another pair, or others than wanted", name)
		}
	}
}
