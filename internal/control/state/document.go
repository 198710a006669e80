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
	// Switch is the generation at which the platform began to move to the
	// present target. It numbers switches: a workload is re-pointed once in
	// each.
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
}

// User is one of the in-cluster proxy.
type User struct {
	upstream.Credentials `json:",inline"`
	Role                 regauth.Role `json:"role"`
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
		return t.Upstream.Credentials
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
