package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/internal/upstream"
)

// Document is all that the controller remembers: key state of Secret
// registry-state.
type Document struct {
	switchover.State
	PKI Certificates `json:"pki,omitzero"`
	// Users are those of the in-cluster proxy.
	Users []User `json:"users,omitempty"`
	// Grants are the credentials of upstreams that have them from a provider.
	Grants []Grant `json:"grants,omitempty"`
	// Rotations are those of CA and users that are under way, or were asked for once.
	Rotations []Rotation `json:"rotations,omitempty"`
	// Switch is the generation at which the platform began to move to the
	// present target, or at which clients were last given another password or CA.
	// It numbers switches: a workload is re-pointed once in each.
	Switch int64 `json:"switch,omitempty"`
	// HashKey keys the hash that users see. Somebody who knows the other settings
	// must not be able to guess a short password from the hash.
	HashKey string `json:"hashKey,omitempty"`

	// raw is what was read, with the fields that this version does not know.
	raw map[string]any
}

// Certificates are the CA of the module and the leaf of the in-cluster proxy.
type Certificates struct {
	CA   pki.KeyPair `json:"ca,omitzero"`
	Leaf pki.KeyPair `json:"leaf,omitzero"`
	// Next is a CA that is to sign, Previous the certificate of one that did: both are
	// trusted during a rotation.
	Next     pki.KeyPair `json:"next,omitzero"`
	Previous string      `json:"previous,omitempty"`
}

// Trusted is what clients of the in-cluster proxy should trust, as PEM; empty while
// there is nothing that can be read. It stays the same when Next takes the place of
// CA.
func (c Certificates) Trusted() string { return pki.Bundle(c.Previous, c.CA.Cert, c.Next.Cert) }

// User is one of the in-cluster proxy. During a rotation another password is good
// too: Next, which nobody has yet, or the one whose hash is Previous.
type User struct {
	upstream.Credentials `json:",inline"`
	Role                 regauth.Role `json:"role"`
	Next                 string       `json:"next,omitempty"`
	Previous             string       `json:"previous,omitempty"`
}

// Accepted is what the in-cluster proxy knows of its users. Of a name's entries the
// first is the one that clients are given.
func (d Document) Accepted() []regauth.User {
	users := make([]regauth.User, 0, len(d.Users))
	for _, u := range d.Users {
		users = append(users, regauth.User{Name: u.Username, SHA256: HashOf(u.Password), Role: u.Role})
		if u.Next != "" {
			users = append(users, regauth.User{Name: u.Username, SHA256: HashOf(u.Next), Role: u.Role})
		}
		if u.Previous != "" {
			users = append(users, regauth.User{Name: u.Username, SHA256: u.Previous, Role: u.Role})
		}
	}
	return users
}

// User finds one of the proxy's users.
func (d Document) User(name string) (User, bool) {
	for _, u := range d.Users {
		if u.Username == name {
			return u, true
		}
	}
	return User{}, false
}

// Moved reports whether the platform's move to the present target has ended.
// A workload that breaks later is not the switch's, and holds up nothing.
func (d Document) Moved() bool {
	return slices.ContainsFunc(d.Passed, func(p switchover.Passed) bool { return p.Step == v1alpha1.ConditionSwitch })
}

// RegistryChecksum stands for the registry that Deckhouse should have read. It
// stays the same when only pull secrets shrink, and holds nothing that could be
// guessed.
func (d Document) RegistryChecksum() string {
	t := d.Desired.Registry
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s\n%s\n%d", t.Mode, t.Upstream, d.Switch)))
	return hex.EncodeToString(sum[:])
}

// Credentials are what clients of a target show. The fixed address has users
// of its own; the upstream's credentials are shown to nobody else.
func (d Document) Credentials(t switchover.Target) upstream.Credentials {
	if !t.HasFixedAddress() {
		return d.With(t.Upstream).Credentials
	}
	client, _ := d.User(UserClient)
	return client.Credentials
}

// WaitsAt is the condition of the step that a switch waits at; zero when it has
// ended.
func (d Document) WaitsAt() metav1.Condition {
	for _, c := range d.Conditions {
		if c.Type != v1alpha1.ConditionReady && c.Status != metav1.ConditionTrue {
			return c
		}
	}
	return metav1.Condition{}
}
