package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
)

// UserHost is a registry host for which a user wrote a hosts.toml: pulls of its
// images go to the mirrors, in order.
type UserHost struct {
	// Name is the host as image references name it, in lower case; DefaultHost
	// for all that have no directory of their own.
	Name    string   `json:"name"`
	Mirrors []Mirror `json:"mirrors"`
}

// DefaultHost is what containerd calls the directory for every other host.
const DefaultHost = "_default"

// Mirror is an upstream as a hosts.toml describes it, which can say more than a
// layout. The upstream's Path is not used: Root and Rewrites are.
type Mirror struct {
	Upstream
	// Root is the path of the registry's API, without trailing slash: "/v2",
	// or "/proxy/v2" where the registry lies below a path.
	Root string `json:"root"`
	// Rewrites change the repository's name; only the first that matches.
	Rewrites []Rewrite `json:"rewrites,omitempty"`
	// NoPull and NoResolve are set when the mirror may not be asked for
	// content by digest, or for what a tag means.
	NoPull    bool `json:"noPull,omitempty"`
	NoResolve bool `json:"noResolve,omitempty"`
	// SkipVerify accepts any certificate.
	SkipVerify bool `json:"skipVerify,omitempty"`
	// ClientCerts are shown to a registry that wants one.
	ClientCerts []ClientCert `json:"clientCerts,omitempty"`
	// Header goes with every request to the mirror itself. It may be secret.
	Header map[string][]string `json:"header,omitempty"`
}

// Rewrite replaces what a regular expression matches in a repository's name.
type Rewrite struct {
	Regex   string `json:"regex"`
	Replace string `json:"replace"`
}

// ClientCert is a certificate with its key, both PEM.
type ClientCert struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// ID names the mirror by content. Like Upstream.ID it is not to be shown.
func (m Mirror) ID() string {
	data, err := json.Marshal(m)
	if err != nil {
		// Strings only: encoding them cannot fail.
		panic(err)
	}
	sum := sha256.Sum256(append([]byte("mirror"), data...))
	return hex.EncodeToString(sum[:8])
}

// String is the address without anything secret.
func (m Mirror) String() string { return string(m.Scheme) + "://" + m.Host + m.Root }

// GoString keeps %#v from printing what is secret.
func (m Mirror) GoString() string { return "upstream.Mirror(" + m.String() + ")" }

// LogValue keeps slog's JSON handler from encoding what is secret.
func (m Mirror) LogValue() slog.Value { return slog.StringValue(m.String()) }

// String keeps the key out of logs.
func (ClientCert) String() string { return redacted }

// GoString keeps the key out of %#v.
func (ClientCert) GoString() string { return "upstream.ClientCert(" + redacted + ")" }

// LogValue hides the content from slog.
func (ClientCert) LogValue() slog.Value { return slog.StringValue(redacted) }
