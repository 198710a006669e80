package upstream

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits on what users write, in bytes. Each value ends up, sometimes more than
// once, in Secrets of at most 1 MiB.
const (
	MaxRepo       = 255
	MaxCA         = 64 << 10
	MaxUsername   = 255
	MaxCredential = 4096
)

// reservedHost is the module's own Service. If it were taken for a real registry,
// every proxy would ask itself.
const reservedHost = "registry.d8-system.svc"

const repoForm = "expected host[:port][/path], without scheme, credentials, tag and digest"

var (
	dnsLabel    = regexp.MustCompile(`^[0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?$`)
	pathSegment = regexp.MustCompile(`^[0-9A-Za-z._-]+$`)
	digits      = regexp.MustCompile(`^[0-9]+$`)
)

// Settings are an upstream as a user writes it in ModuleConfig or as the
// installation wrote it in Secret deckhouse-registry. Names of fields in
// errors are those of ModuleConfig.
type Settings struct {
	ImagesRepo string // host[:port][/path]; spaces around and a trailing slash are dropped
	Scheme     string // "HTTP", "HTTPS", in any case; empty means HTTPS
	CA         string // PEM
	License    string // excludes Username and Password
	Username   string // both or none
	Password   string
}

// FieldError says which field is wrong, what was given and what would be
// right. Value is empty for secrets.
type FieldError struct {
	Field string // "imagesRepo", "scheme", "ca", "license", "username", "password"
	Value string
	Want  string // a sentence that can stand alone
}

// Error names the field, the value and what would be right.
func (e *FieldError) Error() string {
	if e.Value == "" {
		return e.Field + ": " + e.Want
	}
	return e.Field + ": " + quoted(e.Value) + ": " + e.Want
}

// Parse validates what a user wrote and returns the upstream it means. The
// error is a *FieldError, about the first field that is wrong. Parsing the
// fields of a parsed upstream gives the same upstream.
func Parse(s Settings) (Upstream, error) {
	scheme, err := parseScheme(s.Scheme)
	if err != nil {
		return Upstream{}, err
	}
	host, path, err := parseRepo(s.ImagesRepo)
	if err != nil {
		return Upstream{}, err
	}
	ca, err := parseCA(s.CA, scheme)
	if err != nil {
		return Upstream{}, err
	}
	creds, err := parseCredentials(s)
	if err != nil {
		return Upstream{}, err
	}
	return Upstream{Host: host, Path: path, Scheme: scheme, CA: ca, Credentials: creds}, nil
}

// Validate applies the rules of Parse to an upstream that came from somewhere
// else, such as a stored layout. The error is a *FieldError.
func (u Upstream) Validate() error {
	again, err := Parse(Settings{
		ImagesRepo: u.Base(),
		Scheme:     string(u.Scheme),
		CA:         u.CA,
		Username:   u.Credentials.Username,
		Password:   u.Credentials.Password,
	})
	if err != nil {
		return err
	}
	if again != u {
		return &FieldError{Field: "imagesRepo", Value: u.String(), Want: "not in canonical form."}
	}
	return nil
}

func parseScheme(s string) (Scheme, error) {
	switch strings.ToUpper(strings.TrimSpace(s)) {
	case "", "HTTPS":
		return HTTPS, nil
	case "HTTP":
		return HTTP, nil
	}
	return "", &FieldError{Field: "scheme", Value: s, Want: "expected 'HTTP' or 'HTTPS'."}
}

func parseRepo(s string) (host, path string, err error) {
	repo := strings.TrimRight(strings.TrimSpace(s), "/")
	if repo == "" {
		return "", "", &FieldError{Field: "imagesRepo", Want: "'imagesRepo' is required."}
	}
	wrong := func(want string) error {
		return &FieldError{Field: "imagesRepo", Value: withoutUserinfo(repo), Want: want}
	}
	if len(repo) > MaxRepo {
		return "", "", wrong(fmt.Sprintf("longer than %d characters.", MaxRepo))
	}
	if strings.Contains(repo, "://") || strings.Contains(repo, "@") {
		return "", "", wrong(repoForm + ".")
	}
	host, path, _ = strings.Cut(repo, "/")
	host = strings.ToLower(host)
	if problem := hostProblem(host); problem != "" {
		return "", "", wrong(problem)
	}
	if path == "" {
		return host, "", nil
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." || !pathSegment.MatchString(segment) {
			return "", "", wrong(fmt.Sprintf("path segment %s: expected letters, digits, '.', '_' and '-', and neither '.' nor '..'.", quoted(segment)))
		}
	}
	return host, path, nil
}

// hostProblem says what is wrong with host[:port], or nothing.
func hostProblem(hostport string) string {
	host, port, hasPort := strings.Cut(hostport, ":")
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port != strconv.FormatUint(n, 10) {
			return fmt.Sprintf("port %s: expected a number from 1 to 65535.", quoted(port))
		}
	}
	if host == reservedHost || strings.HasPrefix(host, reservedHost+".") {
		return "this is the module's own address; expected the address of the real registry."
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !dnsLabel.MatchString(label) {
			return fmt.Sprintf("host %s: expected a DNS name or an IPv4 address.", quoted(host))
		}
	}
	if digits.MatchString(labels[len(labels)-1]) {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is4() {
			return fmt.Sprintf("host %s: expected a DNS name or an IPv4 address.", quoted(host))
		}
	}
	if len(labels) == 1 && !hasPort && host != "localhost" {
		// In an image reference it would be taken for a repository of Docker Hub.
		return fmt.Sprintf("host %s: a name without a dot needs a port.", quoted(host))
	}
	return ""
}

func parseCredentials(s Settings) (Credentials, error) {
	wrong := func(field, want string) (Credentials, error) {
		return Credentials{}, &FieldError{Field: field, Want: want}
	}
	switch {
	case s.License != "" && (s.Username != "" || s.Password != ""):
		return wrong("license", "'license' and 'username'/'password' are mutually exclusive.")
	case s.Username != "" && s.Password == "":
		return wrong("password", "'password' is required when 'username' is provided.")
	case s.Username == "" && s.Password != "":
		return wrong("username", "'username' is required when 'password' is provided.")
	}
	for _, given := range []struct{ field, value string }{{"license", s.License}, {"password", s.Password}, {"username", s.Username}} {
		if problem := secretProblem(given.value); problem != "" {
			return wrong(given.field, problem)
		}
	}
	switch {
	case s.License != "":
		return Credentials{Username: LicenseUser, Password: s.License}, nil
	case len(s.Username) > MaxUsername:
		return wrong("username", fmt.Sprintf("longer than %d bytes.", MaxUsername))
	case strings.Contains(s.Username, ":"):
		// RFC 7617: the first colon ends the user name.
		return wrong("username", "must not contain ':'.")
	}
	return Credentials{Username: s.Username, Password: s.Password}, nil
}

func secretProblem(s string) string {
	switch {
	case len(s) > MaxCredential:
		return fmt.Sprintf("longer than %d bytes.", MaxCredential)
	case !utf8.ValidString(s):
		return "is not valid UTF-8."
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must not contain line breaks and other control characters."
	}
	return ""
}

// withoutUserinfo drops what stands before an @: a user may have written
// user:password@host.
func withoutUserinfo(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return s[i+1:]
	}
	return s
}

func quoted(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strconv.Quote(s)
}
