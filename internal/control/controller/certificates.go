package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// The users of the in-cluster proxy, by name, and the keys of their Secrets.
const (
	userClient = "ro"
	userNode   = "node"

	userSecretPrefix = "registry-user-"
	typeUser         = "registry/user"
	typePKI          = "registry/pki"
	keyCACert        = "ca.crt"
	keyCAKey         = "ca.key"
	keyName          = "name"
	keyPassword      = "password"
	keyPasswordHash  = "passwordHash"
)

// user finds one of the proxy's users.
func (d document) user(name string) (user, bool) {
	for _, u := range d.Users {
		if u.Username == name {
			return u, true
		}
	}
	return user{}, false
}

// withHashKey completes a document that is to be stored with the key of the
// hash that users see.
func withHashKey(doc document) (document, error) {
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

// withIdentity completes a document with CA, leaf and users. What a lost state
// knew is taken back from the Secrets that show it: a new CA or password would
// cut off every client.
func (r *Reconciler) withIdentity(doc document, s *sight, now time.Time) (document, error) {
	if !doc.Desired.Proxy && doc.PKI.CA.IsZero() {
		return doc, nil
	}
	ca, err := r.authority(doc, s, now)
	if err != nil {
		return doc, err
	}
	doc.PKI.CA = ca
	names := pki.ServiceNames(r.cfg.ClusterDomain)
	if s.service != nil {
		names = pki.ServiceNames(r.cfg.ClusterDomain, s.service.Spec.ClusterIPs...)
	}
	if doc.PKI.Leaf, _, err = pki.EnsureLeaf(now, ca, doc.PKI.Leaf, names); err != nil {
		return doc, fmt.Errorf("certificate of the proxy: %w", err)
	}
	users := make([]user, 0, 2)
	for name, role := range map[string]regauth.Role{userClient: regauth.RoleClient, userNode: regauth.RoleNode} {
		u, known := doc.user(name)
		if !known || u.Password == "" {
			u = user{Credentials: upstream.Credentials{Username: name}}
			if secret := s.own(userSecretPrefix + name); secret != nil {
				u.Password = string(secret.Data[keyPassword])
			}
		}
		if u.Role = role; u.Password == "" {
			if u.Password, err = pki.NewPassword(); err != nil {
				return doc, fmt.Errorf("user %s: %w", name, err)
			}
		}
		users = append(users, u)
	}
	if users[0].Username > users[1].Username {
		users[0], users[1] = users[1], users[0]
	}
	doc.Users = users
	return doc, nil
}

// authority is the module's CA: the stored one, else the one that is shown, and
// only if there is neither a new one.
func (r *Reconciler) authority(doc document, s *sight, now time.Time) (pki.KeyPair, error) {
	var shown pki.KeyPair
	if secret := s.own(v1alpha1.SecretPKI); secret != nil {
		shown = pki.KeyPair{Cert: string(secret.Data[keyCACert]), Key: string(secret.Data[keyCAKey])}
	}
	ca := doc.PKI.CA
	if ca.IsZero() {
		ca = shown
	}
	good, fresh, err := pki.EnsureCA(now, ca)
	if errors.Is(err, pki.ErrDamaged) && !shown.IsZero() && shown != ca {
		good, fresh, err = pki.EnsureCA(now, shown)
	}
	if err != nil {
		return ca, fmt.Errorf("CA of the module: %w", err)
	}
	if fresh {
		r.log.Info("a CA was made")
	}
	return good, nil
}

// own is a Secret of d8-system by name.
func (s *sight) own(name string) *corev1.Secret {
	return s.secrets[client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}]
}

// applyIdentity shows CA and users in Secrets of their own.
func (r *Reconciler) applyIdentity(ctx context.Context, s *sight, doc document) error {
	if doc.PKI.CA.IsZero() {
		return nil
	}
	err := r.putData(ctx, s, v1alpha1.SecretPKI, typePKI, map[string][]byte{
		keyCACert: []byte(doc.PKI.CA.Cert),
		keyCAKey:  []byte(doc.PKI.CA.Key),
	})
	if err != nil {
		return err
	}
	for _, u := range doc.Users {
		err := r.putData(ctx, s, userSecretPrefix+u.Username, typeUser, map[string][]byte{
			keyName:         []byte(u.Username),
			keyPassword:     []byte(u.Password),
			keyPasswordHash: []byte(hashOf(u.Password)),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// putData makes one of our own Secrets say exactly this.
func (r *Reconciler) putData(ctx context.Context, s *sight, name string, kind corev1.SecretType, data map[string][]byte) error {
	have := s.own(name)
	if have != nil && sameData(have.Data, data) && contains(have.Labels, ours()) {
		return nil
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name}, Type: kind}
	if have != nil {
		secret = have.DeepCopy()
	}
	setLabels(secret, ours())
	secret.Data = data
	if err := r.put(ctx, secret); err != nil {
		return fmt.Errorf("write secret %s: %w", name, err)
	}
	return nil
}

// hashOf is how the proxy knows a password: 256 random bits need no salt.
func hashOf(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func sameData(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range b {
		if have, ok := a[k]; !ok || string(have) != string(v) {
			return false
		}
	}
	return true
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
