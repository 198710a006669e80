package state

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
)

// TakeBack completes the stored document, before anything is decided by it, with what
// Secrets show of CA and users and it does not know: it was lost, or somebody has put back
// an older copy of it. A new or an older CA or password would cut off every client that was
// given the present one.
//
// The Secret of the in-cluster proxy tells that the document is older: nothing is written
// there that was not stored before. What somebody writes into the other Secrets is nothing
// to follow. What the document knows stays good as well, until a rotation has ended.
func (v *View) TakeBack(now time.Time) {
	proxy := v.OwnSecret(v1alpha1.SecretProxy)
	v.takeBackCA(proxy, now)
	given := givenTo(proxy)
	for _, name := range []string{UserNode, UserClient} {
		secret := v.OwnSecret(UserSecretPrefix + name)
		u, _ := v.Doc.User(name)
		if secret == nil || !u.isLater(string(secret.Data[keyPassword]), given[name]) {
			continue
		}
		u = u.as(string(secret.Data[keyPassword]), given[name])
		u.Username = name
		others := slices.DeleteFunc(slices.Clone(v.Doc.Users), func(o User) bool { return o.Username == name })
		v.Doc.Users, v.TakenBack = append(others, u), true
		if u.Previous != "" {
			v.Doc.found(UserSecretPrefix+name, Given, v.Snapshot, now)
		}
	}
}

// givenTo are the hashes of the passwords that the proxy was given, by user.
func givenTo(proxy *corev1.Secret) map[string][]string {
	var list []regauth.User
	if proxy == nil || yaml.Unmarshal(proxy.Data[v1alpha1.KeyProxyUsers], &list) != nil {
		return nil
	}
	hashes := map[string][]string{}
	for _, u := range list {
		hashes[u.Name] = append(hashes[u.Name], u.SHA256)
	}
	return hashes
}

// isLater reports whether a password that is shown is of a later state than the user. So
// is its next one: nothing shows that before it is the present one.
func (u User) isLater(shown string, given []string) bool {
	hash := HashOf(shown)
	known := shown == u.Password || hash == u.Previous
	return shown != "" && !known && (u.Password == "" || slices.Contains(given, hash))
}

// as is the user with the password that is shown. Another one that the proxy was given
// stays good, else the one that was stored.
func (u User) as(shown string, given []string) User {
	others := slices.DeleteFunc(slices.Clone(given), func(hash string) bool { return hash == HashOf(shown) })
	if u.Password != "" {
		others = append(others, HashOf(u.Password))
	}
	u.Password, u.Next, u.Previous = shown, "", cmp.Or(others...)
	return u
}

// takeBackCA takes the CA that is shown, if the stored one is lost or the proxy's
// certificate is of none that is stored, and of one that is shown. All stay trusted.
func (v *View) takeBackCA(proxy *corev1.Secret, now time.Time) {
	shown, others := shownCA(v.Snapshot)
	stored := v.Doc.PKI
	switch {
	case shown.IsZero():
		return
	case stored.CA.IsZero():
	case proxy == nil || shown.Cert == stored.CA.Cert:
		return
	default:
		leaf := string(proxy.Data[corev1.TLSCertKey])
		if pki.Signed(pki.Bundle(stored.Previous, stored.CA.Cert), leaf) || !pki.Signed(pki.Bundle(shown.Cert, others), leaf) {
			return
		}
	}
	v.Doc.PKI, v.TakenBack = Certificates{CA: shown, Previous: pki.Bundle(others, stored.CA.Cert)}, true
	if v.Doc.PKI.Previous != "" {
		v.Doc.found(v1alpha1.SecretPKI, Signing, v.Snapshot, now)
	}
}

// shownCA is the CA that signs, as its Secret shows it, and what else is trusted.
func shownCA(there *cluster.Snapshot) (ca pki.KeyPair, others string) {
	secret := there.OwnSecret(v1alpha1.SecretPKI)
	if secret == nil {
		return pki.KeyPair{}, ""
	}
	return pki.Pick(pki.KeyPair{Cert: string(secret.Data[keyCACert]), Key: string(secret.Data[keyCAKey])})
}

// found is what Secrets show of a rotation that the document does not know.
func (d *Document) found(of string, phase Phase, there *cluster.Snapshot, now time.Time) {
	r := Rotation{Of: of, Phase: phase, Since: now}
	if secret := there.OwnSecret(of); secret != nil {
		r.Asked = secret.Annotations[v1alpha1.AnnotationRotate]
	}
	d.Rotations = append(slices.DeleteFunc(slices.Clone(d.Rotations), func(o Rotation) bool { return o.Of == of }), r)
}
