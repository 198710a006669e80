package state

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
)

// The users of the in-cluster proxy, by name, and the keys of their Secrets.
const (
	UserClient = "ro"
	UserNode   = "node"

	UserSecretPrefix = "registry-user-"
	typeUser         = "registry/user"
	typePKI          = "registry/pki"
	keyCACert        = "ca.crt"
	keyCAKey         = "ca.key"
	keyName          = "name"
	keyPassword      = "password"
	keyPasswordHash  = "passwordHash"
)

// WithHashKey completes a document that is to be stored with the key of the
// hash that users see.
func WithHashKey(doc Document) (Document, error) {
	if doc.HashKey != "" || doc.Schema == 0 {
		return doc, nil
	}
	key, err := pki.NewPassword()
	if err != nil {
		return doc, fmt.Errorf("key of the hash: %w", err)
	}
	doc.HashKey = key
	return doc, nil
}

// WithIdentity completes a document with CA, leaf and users.
//
// No certificate stops a pass, and so a switch: with a CA that has expired or is
// damaged, and with a clock that is years off, what is there stays, and the view's
// Notes say so.
func (s *Store) WithIdentity(doc Document, v *View) (Document, error) {
	if !doc.Desired.Proxy && doc.Desired.Store.IsZero() && doc.PKI.CA.IsZero() {
		return doc, nil
	}
	skew := s.cluster.Clock.Skew()
	if skew.Abs() > cluster.ClockLimit {
		v.note("The controller's clock is %s off the API server's, whose time is used for certificates", skew.Abs().Round(time.Minute))
	}
	now := v.Observed.Now.Add(skew)
	s.authority(&doc, v, now)
	if err := s.users(&doc); err != nil {
		return doc, err
	}
	if err := s.rotate(&doc, v, now); err != nil {
		return doc, err
	}
	doc.PKI.Leaf = s.leaf(doc, v, now)
	return doc, nil
}

// leaf is the certificate of the proxy: for the names by which it is called now.
func (s *Store) leaf(doc Document, v *View, now time.Time) pki.KeyPair {
	names := pki.ServiceNames(s.domain)
	if service := v.OwnService(v1alpha1.ServiceRegistry); service != nil {
		names = pki.ServiceNames(s.domain, service.Spec.ClusterIPs...)
	}
	leaf, fresh, err := pki.EnsureLeaf(now, doc.PKI.CA, doc.PKI.Leaf, names)
	if err != nil {
		v.note("The in-cluster proxy's certificate stays as it is: %v", err)
	}
	if refused := doc.PKI.CA.Refused(names); fresh && len(refused) > 0 {
		s.cluster.Log.Warn("the proxy's certificate lacks names that its CA was not made for", "names", refused)
	}
	return leaf
}

// users completes the users of the proxy.
func (s *Store) users(doc *Document) error {
	users := make([]User, 0, 2)
	for _, role := range []struct {
		name string
		role regauth.Role
	}{{UserNode, regauth.RoleNode}, {UserClient, regauth.RoleClient}} {
		u, _ := doc.User(role.name)
		u.Username, u.Role = role.name, role.role
		if u.Password == "" {
			var err error
			if u.Password, err = pki.NewPassword(); err != nil {
				return fmt.Errorf("user %s: %w", u.Username, err)
			}
		}
		users = append(users, u)
	}
	doc.Users = users
	return nil
}

// authority is the module's CA: the stored one, or if that is damaged the one that is
// shown, and only if there is none a new one.
func (s *Store) authority(doc *Document, v *View, now time.Time) {
	// The IP of the Service is not among them: it changes when the Service is made
	// anew, and it can be from any network. So the CA is limited to DNS names.
	names := pki.ServiceNames(s.domain)
	good, fresh, err := pki.EnsureCA(now, doc.PKI.CA, names)
	if shown, _ := shownCA(v.Snapshot); errors.Is(err, pki.ErrDamaged) && !shown.IsZero() && shown != doc.PKI.CA {
		good, fresh, err = pki.EnsureCA(now, shown, names)
	}
	if err != nil {
		v.note("The CA in Secret %s stays as it is: %v", v1alpha1.SecretPKI, err)
	}
	if fresh {
		s.cluster.Log.Info("a CA was made")
	}
	doc.PKI.CA = good
}

// ApplyIdentity shows CA and users in Secrets of their own.
func (s *Store) ApplyIdentity(ctx context.Context, v *View) error {
	if v.Doc.PKI.CA.IsZero() {
		return nil
	}
	err := s.cluster.PutData(ctx, v.Snapshot, v1alpha1.SecretPKI, typePKI, map[string][]byte{
		keyCACert: []byte(cmp.Or(v.Doc.PKI.Trusted(), v.Doc.PKI.CA.Cert)),
		keyCAKey:  []byte(v.Doc.PKI.CA.Key),
	})
	if err != nil {
		return err
	}
	for _, u := range v.Doc.Users {
		err := s.cluster.PutData(ctx, v.Snapshot, UserSecretPrefix+u.Username, typeUser, map[string][]byte{
			keyName:         []byte(u.Username),
			keyPassword:     []byte(u.Password),
			keyPasswordHash: []byte(HashOf(u.Password)),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// HashOf is how the proxy knows a password: 256 random bits need no salt.
func HashOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}
