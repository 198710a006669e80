package serve

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/pki"
)

// clock is this node's, which a test puts where it likes.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// TestTheNodeTokenIsReplaced: from time to time, and the one before is good until
// containerd's files have the new one.
func TestTheNodeTokenIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := open(t, dir)
	c := &clock{time.Now()}
	known, err := newTokens(folder, c.now)
	if err != nil {
		t.Fatal(err)
	}
	onDisk := func() string {
		token, err := folder.Token()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	renew := func() {
		t.Helper()
		if err := known.renew(); err != nil {
			t.Fatal(err)
		}
	}
	first := onDisk()
	aged := func(days int) {
		t.Helper()
		at := c.at.Add(-time.Duration(days) * 24 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "serve", "token"), at, at); err != nil {
			t.Fatal(err)
		}
		renew()
	}
	if aged(89); onDisk() != first || !known.accepts(first) || known.accepts("") || known.accepts(first+"x") {
		t.Fatal("before its time")
	}
	aged(91)
	second := onDisk()
	if second == first || !known.accepts(first) || !known.accepts(second) || known.accepts("") {
		t.Fatal("both must be good after it was replaced")
	}
	again, err := newTokens(folder, c.now) // the agent starts again
	if err != nil || !again.accepts(first) || !again.accepts(second) || onDisk() != second {
		t.Fatalf("both must be good after a restart: %v", err)
	}
	c.at = c.at.Add(25 * time.Hour)
	if known.accepts(first) || !known.accepts(second) {
		t.Error("the one before is good after a day")
	}
	renew()
	if _, err := os.Stat(filepath.Join(dir, "serve", "token.before")); !os.IsNotExist(err) {
		t.Errorf("the one before is still on disk: %v", err)
	}
}

// TestAFullDiskKeepsTheOldToken: also of an agent that starts then. Without any it cannot.
func TestAFullDiskKeepsTheOldToken(t *testing.T) {
	t.Parallel()
	for _, full := range []string{"token.new", "token.before.new"} {
		dir := t.TempDir()
		folder := open(t, dir)
		if _, err := newTokens(folder.On(refusing("token.new")), time.Now); err == nil {
			t.Error("an agent starts without a token")
		}
		c := &clock{time.Now()}
		if _, err := newTokens(folder, c.now); err != nil {
			t.Fatal(err)
		}
		token, err := folder.Token()
		if err != nil {
			t.Fatal(err)
		}
		c.at = c.at.Add(91 * 24 * time.Hour)
		known, err := newTokens(folder.On(refusing(full)), c.now)
		if err != nil || !known.accepts(token) || known.renew() == nil {
			t.Errorf("%s cannot be written: %v", full, err)
		}
	}
}

// TestAClockThatJumps: a CA that was made while the clock was years ahead is of no use
// when it is right again, and one that has expired by a wrong clock is replaced. What
// cannot be renewed does not end the agent.
func TestAClockThatJumps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &clock{time.Now().Add(12 * 365 * 24 * time.Hour)}
	made, err := newCertificate(open(t, dir), "127.0.0.1", c.now)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{time.Now(), time.Now().Add(20 * 365 * 24 * time.Hour), time.Now().Add(-40 * 365 * 24 * time.Hour), time.Now()} {
		c.at = at
		if err := made.renew(); err != nil {
			t.Fatalf("at %s: %v", at, err)
		}
		saved, err := open(t, dir).CA()
		if err != nil || saved != made.ca.Cert {
			t.Errorf("at %s: the CA on disk is another one: %v", at, err)
		}
		if _, fresh, err := pki.EnsureCA(at, made.ca, nil); fresh || err != nil {
			t.Errorf("at %s: the CA is of no use: %v", at, err)
		}
		if _, fresh, err := pki.EnsureLeaf(at, made.ca, made.leaf, []string{"127.0.0.1"}); fresh || err != nil {
			t.Errorf("at %s: the leaf is of no use: %v", at, err)
		}
	}
	if err := renewed(slog.New(slog.DiscardHandler), func() error { return os.ErrPermission })(); err != nil {
		t.Errorf("the agent ends: %v", err)
	}
}
