package serve

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/d8-registry/registry/internal/node/handoff"
	"github.com/d8-registry/registry/internal/pki"
)

// certificate is that of the agent, which containerd checks. The CA is on disk and
// stays as long as it is valid, so that containerd's files need not change; the
// leaf is only in memory.
type certificate struct {
	folder   handoff.StateDir
	host     string
	now      func() time.Time
	ca, leaf pki.KeyPair
	reloader pki.Reloader
}

func newCertificate(folder handoff.StateDir, host string, now func() time.Time) (*certificate, error) {
	ca, err := folder.CAKey()
	if err != nil {
		return nil, err
	}
	c := &certificate{folder: folder, host: host, now: now, ca: ca}
	return c, c.renew()
}

// renew replaces what is of no use any more. For the CA that is one that has expired, is
// damaged, or is not valid yet: it was made while the clock was years ahead. Only this
// node's containerd trusts it, which has the same clock, and the other half writes the new
// one before the next proof. So is a CA for another --listen than before.
func (c *certificate) renew() error {
	now, names := c.now(), []string{c.host, "localhost"} // a DNS name, so that it can sign for no other
	ca, fresh, err := pki.EnsureCA(now, c.ca, names)
	if err != nil || len(ca.Refused(names)) > 0 {
		ca, err = pki.NewCA(now, names)
		fresh = true
	}
	if err != nil {
		return fmt.Errorf("the agent's CA: %w", err)
	}
	if fresh {
		if err := c.folder.SaveCA(ca); err != nil {
			return err
		}
	}
	c.ca = ca
	leaf, fresh, err := pki.EnsureLeaf(now, c.ca, c.leaf, []string{c.host})
	if err != nil {
		return fmt.Errorf("the agent's certificate: %w", err)
	}
	if !fresh {
		return nil
	}
	c.leaf = leaf
	return c.reloader.Set([]byte(leaf.Cert), []byte(leaf.Key))
}

// tokens are the node token, which is replaced from time to time, and the one before it:
// containerd's files have that until the other half has written them.
type tokens struct {
	folder handoff.StateDir
	now    func() time.Time
	known  atomic.Pointer[handoff.Tokens]
}

// newTokens fails only if there is no token: an old one that cannot be replaced, on a full
// disk, costs no pull. The next renew says so.
func newTokens(folder handoff.StateDir, now func() time.Time) (*tokens, error) {
	t := &tokens{folder: folder, now: now}
	if err := t.renew(); t.known.Load() == nil {
		return nil, err
	}
	return t, nil
}

func (t *tokens) renew() error {
	known, err := t.folder.EnsureTokens(t.now())
	if known.Token != "" {
		t.known.Store(&known)
	}
	return err
}

// accepts reports whether a caller shows a token that is good, in a time that tells
// nothing about it.
func (t *tokens) accepts(given string) bool {
	known := t.known.Load()
	same := subtle.ConstantTimeCompare([]byte(given), []byte(known.Token))
	before := subtle.ConstantTimeCompare([]byte(given), []byte(known.Before))
	return same == 1 || before == 1 && known.Before != "" && t.now().Before(known.Until)
}

// renewed goes on with what is there when something cannot be renewed: the next try is
// soon, and pulls go on meanwhile.
func renewed(log *slog.Logger, all ...func() error) func() error {
	return func() error {
		for _, renew := range all {
			if err := renew(); err != nil {
				log.Warn("the agent's certificate or token is not renewed", "err", err)
			}
		}
		return nil
	}
}
