package upstream

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/url"
)

// Scheme is how an upstream is spoken to.
type Scheme string

// The two schemes. Objects that users see spell them in lower case, except
// ModuleConfig, which spells them in upper case.
const (
	HTTPS Scheme = "https"
	HTTP  Scheme = "http"
)

// Upstream is one registry that images can be pulled from. It is a value:
// comparable with ==, never changed after Parse. Two credentials for one
// address are two upstreams, unless they are provided.
type Upstream struct {
	// Host is a DNS name or IP address with an optional port, in lower case:
	// "registry.example.com", "10.0.0.1:5000".
	Host string `json:"host"`
	// Path is the repository prefix below which the platform's images lie,
	// without leading or trailing slash: "deckhouse/ee". It may be empty.
	Path string `json:"path,omitempty"`
	// Scheme is HTTPS or HTTP.
	Scheme Scheme `json:"scheme"`
	// CA is one or more PEM certificates, or empty for the system's roots. It
	// is always empty with HTTP.
	CA string `json:"ca,omitempty"`
	// Credentials are empty for anonymous access.
	Credentials Credentials `json:"credentials,omitzero"`
	// Provided is whether somebody gives us the credentials, for hours at most. Then they
	// are no part of what the upstream is: states have it without them, and what is
	// published has it with those of the moment.
	Provided bool `json:"provided,omitempty"`
}

// Lasting is the upstream without credentials that are for a while only.
func (u Upstream) Lasting() Upstream {
	if u.Provided {
		u.Credentials = Credentials{}
	}
	return u
}

// IsZero reports whether there is no upstream at all.
func (u Upstream) IsZero() bool { return u == Upstream{} }

// Base is what image references of this upstream start with: host and path.
func (u Upstream) Base() string {
	if u.Path == "" {
		return u.Host
	}
	return u.Host + "/" + u.Path
}

// Origin is where its registry answers: scheme, host and port.
func (u Upstream) Origin() *url.URL {
	return &url.URL{Scheme: string(u.Scheme), Host: HostOfAPI(u.Host)}
}

// ID names the upstream by content: the first 16 hex digits of a SHA-256 over
// all its fields, credentials included. It is for maps and for Secrets. It is
// not for logs, metrics or objects that everybody reads: a short password could
// be guessed from it. Print String instead.
func (u Upstream) ID() string { return Digest(u)[:16] }

// Digest names a value by content: a SHA-256 in hex over its JSON. The value is
// made of strings, numbers, lists and maps of strings, or is a Kubernetes object.
func Digest(value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // such a value has an encoding
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// String is the address without anything secret.
func (u Upstream) String() string { return string(u.Scheme) + "://" + u.Base() }

// GoString keeps %#v from printing the credentials.
func (u Upstream) GoString() string { return "upstream.Upstream(" + u.String() + ")" }

// LogValue keeps slog's JSON handler from encoding the credentials.
func (u Upstream) LogValue() slog.Value { return slog.StringValue(u.String()) }
