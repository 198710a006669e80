package upstream

import "log/slog"

// LicenseUser is the user name that goes with a license key as password.
const LicenseUser = "license-token"

const redacted = "redacted"

// Credentials are a user name and a password. Nothing prints them: not fmt,
// not slog, not an error.
type Credentials struct {
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// IsZero reports whether access is anonymous.
func (c Credentials) IsZero() bool { return c == Credentials{} }

// String hides the content.
func (c Credentials) String() string {
	if c.IsZero() {
		return "anonymous"
	}
	return redacted
}

// GoString hides the content from %#v.
func (c Credentials) GoString() string { return "upstream.Credentials(" + c.String() + ")" }

// LogValue hides the content from slog.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }
