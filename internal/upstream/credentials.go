package upstream

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits in bytes. User name and password go in one header, as base64. Most
// servers take headers of 8 KiB.
const (
	MaxUsername   = 255
	MaxCredential = 4096
)

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

// problem says which field cannot be sent to a registry, and why; empty if all
// can. It shows no value.
func (c Credentials) problem() (field, want string) {
	switch {
	case len(c.Username) > MaxUsername:
		return "username", fmt.Sprintf("longer than %d bytes.", MaxUsername)
	case !utf8.ValidString(c.Username):
		return "username", "is not valid UTF-8."
	case strings.ContainsFunc(c.Username, unicode.IsControl):
		return "username", "must not contain line breaks and other control characters."
	case strings.Contains(c.Username, ":"):
		// RFC 7617: the first colon ends the user name.
		return "username", "must not contain ':'."
	}
	return "password", passwordProblem(c.Password)
}

var (
	// A key of Google Cloud is JSON of many lines, and is a password as it is: it
	// travels as base64 and as JSON. No other control character is typed by
	// anybody.
	controls = regexp.MustCompile(`[\x00-\x08\x0B\x0C\x0E-\x1F\x7F\x{80}-\x{9F}]`)
	// One line with a line break or a tab around it: what echo and files add.
	untidy = regexp.MustCompile(`^ *[\t\r\n][ \t\r\n]*[^\r\n]*[ \t\r\n]*$|^[ \t\r\n]*[^\r\n]*[ \t\r\n]*[\t\r\n] *$`)
)

// passwordProblem is what the admission policy says too, by the same
// expressions.
func passwordProblem(s string) string {
	switch {
	case len(s) > MaxCredential:
		return fmt.Sprintf("longer than %d bytes.", MaxCredential)
	case !utf8.ValidString(s):
		return "is not valid UTF-8."
	case controls.MatchString(s):
		return "must not contain control characters, line breaks and tabs excepted."
	case untidy.MatchString(s):
		return "is one line with a line break or a tab before or after it; remove that (printf '%s' instead of echo)."
	}
	return ""
}

// licenseProblem is for a key, which is one line.
func licenseProblem(s string) string {
	if problem := passwordProblem(s); problem != "" {
		return problem
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "must not contain line breaks and other control characters."
	}
	return ""
}

// Problem says why credentials cannot be sent to a registry; empty if they can.
// It shows nothing of them.
func (c Credentials) Problem() string {
	if field, want := c.problem(); want != "" {
		return field + ": " + want
	}
	return ""
}

// Auth is user name and password as docker configs and HTTP have them.
func (c Credentials) Auth() string {
	return base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
}

// ParseAuth reads what Auth makes, with or without padding. Its errors show
// nothing.
func ParseAuth(auth string) (Credentials, error) {
	pair, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(auth), "="))
	if err != nil {
		return Credentials{}, errors.New("is no base64")
	}
	username, password, ok := strings.Cut(string(pair), ":")
	if !ok {
		return Credentials{}, errors.New("is no user name and password with a colon between them")
	}
	return Credentials{Username: username, Password: password}, nil
}
