package state

import (
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
	"github.com/d8-registry/registry/internal/upstream"
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

// WithIdentity completes a document with CA, leaf and users. What a lost state
// knew is taken back from the Secrets that show it: a new CA or password would
// cut off every client.
func (s *Store) WithIdentity(doc Document, there *cluster.Snapshot, now time.Time) (Document, error) {
	if !doc.Desired.Proxy && doc.PKI.CA.IsZero() {
		return doc, nil
	}
	ca, err := s.authority(doc, there, now)
	if err != nil {
		return doc, err
	}
	doc.PKI.CA = ca
	names := pki.ServiceNames(s.domain)
	if service := there.OwnService(v1alpha1.ServiceRegistry); service != nil {
		names = pki.ServiceNames(s.domain, service.Spec.ClusterIPs...)
	}
	var fresh bool
	if doc.PKI.Leaf, fresh, err = pki.EnsureLeaf(now, ca, doc.PKI.Leaf, names); err != nil {
		return doc, fmt.Errorf("certificate of the proxy: %w", err)
	}
	if refused := ca.Refused(names); fresh && len(refused) > 0 {
		s.cluster.Log.Warn("the proxy's certificate lacks names that its CA was not made for", "names", refused)
	}
	users := make([]User, 0, 2)
	for _, u := range []User{{upstream.Credentials{Username: UserNode}, regauth.RoleNode}, {upstream.Credentials{Username: UserClient}, regauth.RoleClient}} {
		stored, _ := doc.User(u.Username)
		u.Password = stored.Password
		if secret := there.OwnSecret(UserSecretPrefix + u.Username); secret != nil && u.Password == "" {
			u.Password = string(secret.Data[keyPassword])
		}
		if u.Password == "" {
			if u.Password, err = pki.NewPassword(); err != nil {
				return doc, fmt.Errorf("user %s: %w", u.Username, err)
			}
		}
		users = append(users, u)
	}
	doc.Users = users
	return doc, nil
}

// authority is the module's CA: the stored one, else the one that is shown, and
// only if there is neither a new one.
func (s *Store) authority(doc Document, there *cluster.Snapshot, now time.Time) (pki.KeyPair, error) {
	var shown pki.KeyPair
	if secret := there.OwnSecret(v1alpha1.SecretPKI); secret != nil {
		shown = pki.KeyPair{Cert: string(secret.Data[keyCACert]), Key: string(secret.Data[keyCAKey])}
	}
	ca := doc.PKI.CA
	if ca.IsZero() {
		ca = shown
	}
	// The IP of the Service is not among them: it changes when the Service is made
	// anew, and it can be from any network. So the CA is limited to DNS names.
	names := pki.ServiceNames(s.domain)
	good, fresh, err := pki.EnsureCA(now, ca, names)
	if errors.Is(err, pki.ErrDamaged) && !shown.IsZero() && shown != ca {
		good, fresh, err = pki.EnsureCA(now, shown, names)
	}
	if err != nil {
		return ca, fmt.Errorf("CA of the module: %w", err)
	}
	if fresh {
		s.cluster.Log.Info("a CA was made")
	}
	return good, nil
}

// ApplyIdentity shows CA and users in Secrets of their own.
func (s *Store) ApplyIdentity(ctx context.Context, v *View) error {
	if v.Doc.PKI.CA.IsZero() {
		return nil
	}
	err := s.cluster.PutData(ctx, v.Snapshot, v1alpha1.SecretPKI, typePKI, map[string][]byte{
		keyCACert: []byte(v.Doc.PKI.CA.Cert),
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
