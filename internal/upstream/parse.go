package upstream

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Limits on what users write, in bytes. Each value ends up, sometimes more than
// once, in Secrets of at most 1 MiB.
const (
	MaxRepo = 255
	MaxCA   = 64 << 10
)

// reservedHost is the module's own Service. If it were taken for a real registry,
// every proxy would ask itself.
const reservedHost = "registry.d8-system.svc"

const repoForm = "expected host[:port][/path], without scheme, credentials, tag and digest"

var (
	dnsLabel    = regexp.MustCompile(`^[0-9a-z]([0-9a-z-]{0,61}[0-9a-z])?$`)
	pathSegment = regexp.MustCompile(`^[0-9A-Za-z._-]+$`)
	digits      = regexp.MustCompile(`^[0-9]+$`)
	bareIPv6    = regexp.MustCompile(`^[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*(%.*)?$`)
	linkLocal   = regexp.MustCompile(`^fe[89ab][0-9a-f]:`)
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
	if again.Host == HostInReferences(u.Host) {
		again.Host = u.Host // what an older version stored is still right
	}
	again.Provided = u.Provided
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
	host = HostInReferences(strings.ToLower(host))
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
	if strings.HasPrefix(hostport, "[") || bareIPv6.MatchString(hostport) {
		return ipv6Problem(hostport)
	}
	host, port, hasPort := strings.Cut(hostport, ":")
	if hasPort && !validPort(port) {
		return fmt.Sprintf("port %s: expected a number from 1 to 65535.", quoted(port))
	}
	if host == reservedHost || strings.HasPrefix(host, reservedHost+".") {
		return "this is the module's own address; expected the address of the real registry."
	}
	labels := strings.Split(host, ".")
	for _, label := range labels {
		if !dnsLabel.MatchString(label) {
			return fmt.Sprintf("host %s: expected a DNS name or an IP address.", quoted(host))
		}
	}
	if digits.MatchString(labels[len(labels)-1]) {
		if addr, err := netip.ParseAddr(host); err != nil || !addr.Is4() {
			return fmt.Sprintf("host %s: expected a DNS name or an IP address.", quoted(host))
		}
	}
	if len(labels) == 1 && !hasPort && host != "localhost" {
		// In an image reference it would be taken for a repository of Docker Hub.
		return fmt.Sprintf("host %s: a name without a dot needs a port.", quoted(host))
	}
	return ""
}

// ipv6Problem says what is wrong with an IPv6 address and its port. Without a
// port kubelet takes the brackets of a pull secret's key for a pattern.
func ipv6Problem(hostport string) string {
	literal, rest, closed := strings.Cut(strings.TrimPrefix(hostport, "["), "]")
	switch {
	case strings.Contains(hostport, "%") || linkLocal.MatchString(strings.TrimPrefix(hostport, "[")):
		return fmt.Sprintf("host %s: image references have no zones, which a link-local address needs; expected another address.", quoted(hostport))
	case !closed || hostport[0] != '[' || !strings.HasPrefix(rest, ":"):
		return fmt.Sprintf("host %s: expected an IPv6 address in brackets and with a port, such as [fd00::1]:5000.", quoted(hostport))
	case !validPort(rest[1:]):
		return fmt.Sprintf("port %s: expected a number from 1 to 65535.", quoted(rest[1:]))
	}
	// An IPv4 address inside is no part of an image reference either.
	if addr, err := netip.ParseAddr(literal); err != nil || !addr.Is6() || strings.Contains(literal, ".") {
		return fmt.Sprintf("host %s: this is no IPv6 address in hexadecimal digits.", quoted(hostport))
	}
	return ""
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && port == strconv.FormatUint(n, 10)
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
	if s.License != "" {
		if problem := licenseProblem(s.License); problem != "" {
			return wrong("license", problem)
		}
		return Credentials{Username: LicenseUser, Password: s.License}, nil
	}
	c := Credentials{Username: s.Username, Password: s.Password}
	if field, problem := c.problem(); problem != "" {
		return wrong(field, problem)
	}
	return c, nil
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
