package state

import (
	"fmt"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/pki"
)

// TestAnOlderStateKeepsIdentity: whatever copy of the state is put back, of before a
// rotation or of the middle of it, who has what was given out meanwhile is served. What
// somebody writes into the Secrets is not followed.
func TestAnOlderStateKeepsIdentity(t *testing.T) {
	t.Parallel()
	secrets := []string{v1alpha1.SecretPKI, UserSecretPrefix + UserNode, UserSecretPrefix + UserClient}
	o := newOwner(t)
	type moment struct {
		Document
		at time.Time
	}
	all := []moment{{o.doc, o.now}}
	for _, asked := range []string{"1", "2"} {
		for _, name := range secrets {
			o.ask(name, asked)
		}
		for _, later := range []time.Duration{0, 0, 0, 24 * time.Hour, 0, 24 * time.Hour, 0} {
			o.pass(later)
			all = append(all, moment{o.doc, o.now})
		}
	}
	for j, before := range all {
		for i, older := range all[:j] {
			clear(o.secrets)
			clear(o.store.looked)
			o.doc, o.now = before.Document, before.at
			o.show()
			o.doc = older.Document
			o.pass(0)
			if !strings.Contains(before.PKI.Trusted(), o.doc.PKI.CA.Cert) || !pki.Signed(o.doc.PKI.CA.Cert, o.doc.PKI.Leaf.Cert) {
				t.Errorf("%d put back at %d: who trusts what was given out does not trust the proxy", i, j)
			}
			for _, u := range before.Users {
				for _, hash := range []string{HashOf(u.Password), u.Previous} {
					if hash != "" && !strings.Contains(fmt.Sprint(o.doc.Accepted()), hash) {
						t.Errorf("%d put back at %d: a password of %s is refused", i, j, u.Username)
					}
				}
			}
			for range 5 {
				o.hours(24)
			}
			if len(o.doc.RotationsUnderWay()) > 0 || len(o.doc.Accepted()) != 2 || o.doc.PKI.Trusted() != o.doc.PKI.CA.Cert {
				t.Errorf("%d put back at %d: %v, %d passwords, %q", i, j, o.doc.RotationsUnderWay(), len(o.doc.Accepted()), o.notes)
			}
		}
	}
	clear(o.secrets)
	o.show()
	before := o.doc
	mine, err := pki.NewCA(o.now, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.secrets[cluster.Here(v1alpha1.SecretPKI)].Data = map[string][]byte{keyCACert: []byte(mine.Cert), keyCAKey: []byte(mine.Key)}
	o.secrets[cluster.Here(UserSecretPrefix+UserNode)].Data[keyPassword] = []byte("mine")
	if o.pass(0); o.doc.PKI.CA != before.PKI.CA || o.user(UserNode) != before.Users[0] {
		t.Errorf("what somebody wrote is followed: %v", o.user(UserNode))
	}
}
