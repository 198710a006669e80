package regauth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Role is what a user is for.
type Role string

// The roles. Both may pull; they are told apart in reports and can be rotated
// one without the other.
const (
	RoleClient Role = "client" // in-cluster clients
	RoleNode   Role = "node"   // containerd on nodes, as their fallback
)

// User is somebody who may pull. Passwords are 256 random bits, so one round
// of SHA-256 without salt is enough.
type User struct {
	Name   string `json:"name" yaml:"name"`
	SHA256 string `json:"sha256" yaml:"sha256"` // of the password, in hex
	Role   Role   `json:"role" yaml:"role"`
	// Old marks, of those whom Verify finds, a password that clients are not given any
	// more.
	Old bool `json:"-" yaml:"-"`
}

// Users is an immutable set of users. A name may occur more than once: during
// a rotation the old and the new password are both good, and the first entry is the
// one that clients are given. A nil Users knows nobody.
type Users struct{ entries []entry }

type entry struct {
	user           User
	name, password [sha256.Size]byte
}

// ParseUsers reads the YAML list of key "users" of the proxy's Secret. Unknown
// fields are an error: a user is never taken for less than was meant.
func ParseUsers(data []byte) (*Users, error) {
	var list []User
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New("parse users: not a YAML list of name, sha256 and role")
	}
	return NewUsers(list)
}

// Fingerprint stands for what the in-cluster proxy serves by: the list of users and
// the certificate, as they are in its Secret.
func Fingerprint(users, certificate []byte) string {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%d\n", len(users)) // a hash takes everything
	sum.Write(users)
	sum.Write(certificate)
	return hex.EncodeToString(sum.Sum(nil))
}

// NewUsers checks and takes a list of users.
func NewUsers(list []User) (*Users, error) {
	u := &Users{}
	for i, user := range list {
		sum, err := hex.DecodeString(user.SHA256)
		switch {
		case user.Name == "":
			return nil, fmt.Errorf("user %d: no name", i)
		case err != nil || len(sum) != sha256.Size:
			return nil, fmt.Errorf("user %q: sha256 is not 64 hex digits", user.Name)
		case user.Role != RoleClient && user.Role != RoleNode:
			return nil, fmt.Errorf("user %q: unknown role %q", user.Name, user.Role)
		}
		user.Old = slices.ContainsFunc(u.entries, func(e entry) bool { return e.user.Name == user.Name })
		u.entries = append(u.entries, entry{user: user, name: sha256.Sum256([]byte(user.Name)), password: [sha256.Size]byte(sum)})
	}
	return u, nil
}

// Verify compares with every user, in a time that tells nothing about which of
// them exist or how much of a password was right.
func (u *Users) Verify(name, password string) (User, bool) {
	if u == nil {
		return User{}, false
	}
	nameSum, passwordSum := sha256.Sum256([]byte(name)), sha256.Sum256([]byte(password))
	found := -1
	for i := range u.entries {
		e := &u.entries[i]
		same := subtle.ConstantTimeCompare(e.name[:], nameSum[:]) & subtle.ConstantTimeCompare(e.password[:], passwordSum[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return User{}, false
	}
	return u.entries[found].user, true
}
