package handoff

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

const (
	// tokenLife is the age at which the node token is replaced.
	tokenLife = 90 * 24 * time.Hour
	// beforeLife is how long the one before is still good. The other half writes
	// containerd's files within minutes, and starts again with the agent.
	beforeLife = 24 * time.Hour
)

// Tokens are the node token and the one before it, which is good until a time; empty if
// there is none.
type Tokens struct {
	Token, Before string
	Until         time.Time
}

// Token is the node token; fs.ErrNotExist until serve has made one.
func (f StateDir) Token() (string, error) {
	data, err := read(f.servePath(fileToken))
	return strings.TrimSpace(string(data)), err
}

// EnsureTokens makes a token of 256 random bits if there is none, or if it is old. The
// old one is set aside first. One that cannot be replaced, on a full disk, is still good:
// it is returned with the error.
func (f StateDir) EnsureTokens(now time.Time) (Tokens, error) {
	token, err := f.Token()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Tokens{}, err
	}
	good := err == nil && len(token) >= 32
	made, err := f.made(fileToken)
	if err != nil {
		return Tokens{}, err
	}
	switch {
	case !good:
		token, err = f.newToken()
	case now.Sub(made) > tokenLife:
		if err = f.write(f.servePath(fileBefore), ownerOnly, []byte(token+"\n")); err == nil {
			var next string
			if next, err = f.newToken(); err == nil {
				token = next
			}
		}
	}
	before, until, errBefore := f.before(now)
	return Tokens{Token: token, Before: before, Until: until}, errors.Join(err, errBefore)
}

// newToken is empty if it could not be saved.
func (f StateDir) newToken() (string, error) {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // it never fails
	token := hex.EncodeToString(bits[:])
	if err := f.write(f.servePath(fileToken), ownerOnly, []byte(token+"\n")); err != nil {
		return "", err
	}
	return token, nil
}

// before is the token before, which is removed when its time has come.
func (f StateDir) before(now time.Time) (string, time.Time, error) {
	data, err := read(f.servePath(fileBefore))
	if err != nil {
		return "", time.Time{}, unlessMissing(err)
	}
	aside, err := f.made(fileBefore)
	if err != nil {
		return "", time.Time{}, err
	}
	if aside.After(now) { // the clock was set back: else it would be good until that time comes
		aside = now
		err = f.write(f.servePath(fileBefore), ownerOnly, data)
	}
	if until := aside.Add(beforeLife); now.Before(until) {
		return strings.TrimSpace(string(data)), until, err
	}
	if err := unlessMissing(f.fsys.Remove(f.servePath(fileBefore))); err != nil {
		return "", time.Time{}, fmt.Errorf("remove the token before: %w", err)
	}
	return "", time.Time{}, nil
}

// made is when a file of serve's was written; zero if it is not there.
func (f StateDir) made(name string) (time.Time, error) {
	info, err := os.Lstat(f.servePath(name))
	if err != nil {
		return time.Time{}, unlessMissing(err)
	}
	return info.ModTime(), nil
}
