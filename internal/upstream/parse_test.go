package upstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// certificate makes a self-signed one.
func certificate(t testing.TB) string {
	t.Helper()
	_, pem, err := cert.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return pem
}

func TestParse(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	u := func(host, path string) upstream.Upstream {
		return upstream.Upstream{Host: host, Path: path, Scheme: upstream.HTTPS}
	}
	with := func(u upstream.Upstream, edit func(*upstream.Upstream)) upstream.Upstream { edit(&u); return u }
	for name, c := range map[string]struct {
		in   upstream.Settings
		want upstream.Upstream
	}{
		"host and path": {upstream.Settings{ImagesRepo: "registry.example.com/deckhouse/ee"}, u("registry.example.com", "deckhouse/ee")},
		"no path":       {upstream.Settings{ImagesRepo: "registry.example.com"}, u("registry.example.com", "")},
		"port":          {upstream.Settings{ImagesRepo: "10.0.0.1:5000/d"}, u("10.0.0.1:5000", "d")},
		"short name":    {upstream.Settings{ImagesRepo: "registry:5000/d"}, u("registry:5000", "d")},
		"untidy":        {upstream.Settings{ImagesRepo: "  Registry.Example.COM/My_Team/x.y-z//\n"}, u("registry.example.com", "My_Team/x.y-z")},
		"http": {upstream.Settings{ImagesRepo: "r.io/d", Scheme: "http"},
			with(u("r.io", "d"), func(u *upstream.Upstream) { u.Scheme = upstream.HTTP })},
		"license": {upstream.Settings{ImagesRepo: "r.io/d", License: "KEY"},
			with(u("r.io", "d"), func(u *upstream.Upstream) {
				u.Credentials = upstream.Credentials{Username: "license-token", Password: "KEY"}
			})},
		"IPv6":           {upstream.Settings{ImagesRepo: "[FD00::1]:5000/d8"}, u("[fd00::1]:5000", "d8")},
		"IPv6 loopback":  {upstream.Settings{ImagesRepo: "[::1]:5000"}, u("[::1]:5000", "")},
		"IPv6 in full":   {upstream.Settings{ImagesRepo: "[1:2:3:4:5:6:7:8]:443/a/b"}, u("[1:2:3:4:5:6:7:8]:443", "a/b")},
		"Docker Hub":     {upstream.Settings{ImagesRepo: "docker.io/team"}, u("docker.io", "team")},
		"its other name": {upstream.Settings{ImagesRepo: "Index.docker.io/team/x"}, u("docker.io", "team/x")},
		"its registry":   {upstream.Settings{ImagesRepo: "registry-1.docker.io/team"}, u("registry-1.docker.io", "team")},
		"key of Google Cloud": {upstream.Settings{ImagesRepo: "r.io/d", Username: "_json_key", Password: "{\n\t\"type\": \"x\"\r\n}\n"},
			with(u("r.io", "d"), func(u *upstream.Upstream) {
				u.Credentials = upstream.Credentials{Username: "_json_key", Password: "{\n\t\"type\": \"x\"\r\n}\n"}
			})},
		"user": {upstream.Settings{ImagesRepo: "r.io/d", Scheme: "HTTPS", Username: "robot$a+b", Password: `p"\: ü`},
			with(u("r.io", "d"), func(u *upstream.Upstream) {
				u.Credentials = upstream.Credentials{Username: "robot$a+b", Password: `p"\: ü`}
			})},
		"ca with text around it, twice": {upstream.Settings{ImagesRepo: "r.io/d", CA: "# Issuer\n" + ca + "\n" + ca},
			with(u("r.io", "d"), func(u *upstream.Upstream) { u.CA = ca })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := upstream.Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("what Parse returns is not valid: %v", err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	ca := certificate(t)
	repo := func(s string) upstream.Settings { return upstream.Settings{ImagesRepo: s} }
	auth := func(license, user, password string) upstream.Settings {
		return upstream.Settings{ImagesRepo: "r.io/d", License: license, Username: user, Password: password}
	}
	const secret = "S3CRET"
	for name, c := range map[string]struct {
		in          upstream.Settings
		field, want string
	}{
		"nothing":                 {repo(" / "), "imagesRepo", "'imagesRepo' is required."},
		"scheme in it":            {repo("https://r.io/d"), "imagesRepo", "without scheme"},
		"credentials in it":       {repo("u:" + secret + "@r.io/d"), "imagesRepo", "without scheme, credentials"},
		"digest":                  {repo("r.io/d@sha256:00"), "imagesRepo", "digest"},
		"tag":                     {repo("r.io/d:v1"), "imagesRepo", "path segment"},
		"port 0":                  {repo("r.io:0/d"), "imagesRepo", "1 to 65535"},
		"port 65536":              {repo("r.io:65536/d"), "imagesRepo", "1 to 65535"},
		"port 080":                {repo("r.io:080/d"), "imagesRepo", "1 to 65535"},
		"empty port":              {repo("r.io:/d"), "imagesRepo", "1 to 65535"},
		"two ports":               {repo("r.io:1:2/d"), "imagesRepo", "1 to 65535"},
		"IPv6 without a port":     {repo("[fd00::1]/d"), "imagesRepo", "in brackets and with a port"},
		"IPv6, no brackets":       {repo("fd00::1/d"), "imagesRepo", "in brackets and with a port"},
		"IPv6, no end":            {repo("[fd00::1:5000/d"), "imagesRepo", "in brackets and with a port"},
		"IPv6, no brackets, port": {repo("fd00::1:5000/d"), "imagesRepo", "in brackets and with a port"},
		"IPv6 port":               {repo("[fd00::1]:0/d"), "imagesRepo", "1 to 65535"},
		"IPv6 with a zone":        {repo("[fe80::1%eth0]:5000/d"), "imagesRepo", "zone"},
		"IPv6 that needs one":     {repo("[fe80::1]:5000/d"), "imagesRepo", "zone"},
		"IPv4 in IPv6":            {repo("[::ffff:10.0.0.1]:5000/d"), "imagesRepo", "no IPv6 address in hexadecimal digits"},
		"not IPv6":                {repo("[fd00::1::2]:5000/d"), "imagesRepo", "no IPv6 address in hexadecimal digits"},
		"bad IP":                  {repo("10.0.0.256/d"), "imagesRepo", "IP address"},
		"short IP":                {repo("10.1/d"), "imagesRepo", "IP address"},
		"underscore":              {repo("my_host.io/d"), "imagesRepo", "DNS name"},
		"leading hyphen":          {repo("-a.io/d"), "imagesRepo", "DNS name"},
		"empty label":             {repo("a..io/d"), "imagesRepo", "DNS name"},
		"no dot, no port":         {repo("deckhouse/ee"), "imagesRepo", "needs a port"},
		"dot-dot":                 {repo("r.io/a/../b"), "imagesRepo", "'..'"},
		"dot":                     {repo("r.io/./b"), "imagesRepo", "'.'"},
		"empty segment":           {repo("r.io/a//b"), "imagesRepo", "path segment"},
		"newline":                 {repo("r.io/a\nb"), "imagesRepo", "path segment"},
		"NUL":                     {repo("r.io\x00/a"), "imagesRepo", "DNS name"},
		"shell":                   {repo("r.io/$(id)"), "imagesRepo", "path segment"},
		"too long":                {repo("r.io/" + strings.Repeat("a", 255)), "imagesRepo", "longer"},
		"fixed address":           {repo("registry.d8-system.svc:5001/system/deckhouse"), "imagesRepo", "own address"},
		"fixed address, long":     {repo("Registry.d8-system.svc.cluster.local/x"), "imagesRepo", "own address"},
		"unknown scheme":          {upstream.Settings{ImagesRepo: "r.io", Scheme: "ftp"}, "scheme", "'HTTP' or 'HTTPS'"},
		"license and user":        {auth(secret, "u", ""), "license", "mutually exclusive"},
		"license and password":    {auth("l", "", secret), "license", "mutually exclusive"},
		"no password":             {auth("", "u", ""), "password", "'password' is required when 'username' is provided."},
		"no user":                 {auth("", "", secret), "username", "'username' is required when 'password' is provided."},
		"password of echo":        {auth("", "u", secret+"\n"), "password", "line break or a tab before or after it"},
		"password of a table":     {auth("", "u", "\t"+secret), "password", "line break or a tab before or after it"},
		"password of breaks":      {auth("", "u", "\n \r\n"), "password", "line break or a tab before or after it"},
		"NUL in a password":       {auth("", "u", secret+"\x00"), "password", "control characters"},
		"escape in a password":    {auth("", "u", secret+"\x1b[0m\n"+secret), "password", "control characters"},
		"license of two lines":    {auth(secret+"\n"+secret, "", ""), "license", "line breaks"},
		"user of two lines":       {auth("", "a\nb", secret), "username", "line breaks"},
		"license not UTF-8":       {auth(secret+"\xff", "", ""), "license", "UTF-8"},
		"license too long":        {auth(strings.Repeat("a", 5000), "", ""), "license", "longer"},
		"colon in user":           {auth("", "a:b", secret), "username", "':'"},
		"user too long":           {auth("", strings.Repeat("a", 256), secret), "username", "longer"},
		"C1 control":              {auth("", "u\u0085", secret), "username", "control"},
		"CA with HTTP":            {upstream.Settings{ImagesRepo: "r.io", Scheme: "HTTP", CA: ca}, "ca", "CA is not allowed when scheme is 'HTTP'."},
		"CA no PEM":               {upstream.Settings{ImagesRepo: "r.io", CA: secret}, "ca", "PEM"},
		"CA a key": {upstream.Settings{ImagesRepo: "r.io", CA: "-----BEGIN PRIVATE KEY-----\nUzNDUkVU\n-----END PRIVATE KEY-----\n"},
			"ca", "certificates only"},
		"CA no certificate": {upstream.Settings{ImagesRepo: "r.io", CA: "-----BEGIN CERTIFICATE-----\nUzNDUkVU\n-----END CERTIFICATE-----\n"},
			"ca", "certificate 1"},
		"CA half broken":   {upstream.Settings{ImagesRepo: "r.io", CA: ca + strings.Replace(ca, "-----END", "----END", 1)}, "ca", "1 of 2"},
		"a megabyte of CA": {upstream.Settings{ImagesRepo: "r.io", CA: strings.Repeat(ca, 1<<20/len(ca)+1)}, "ca", "64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := upstream.Parse(c.in)
			var fe *upstream.FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("got %v, %v; want a FieldError", got, err)
			}
			if fe.Field != c.field || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want field %s and %q", err, c.field, c.want)
			}
			if strings.Contains(err.Error(), secret) || len(err.Error()) > 400 {
				t.Errorf("error shows a secret or too much: %q", err)
			}
			if !got.IsZero() {
				t.Errorf("an upstream came with the error: %v", got)
			}
		})
	}
}

func TestValidateRefusesWhatParseWouldChange(t *testing.T) {
	t.Parallel()
	// An older version stored this name of Docker Hub as it was written.
	if err := (upstream.Upstream{Host: "index.docker.io", Path: "d", Scheme: upstream.HTTPS}).Validate(); err != nil {
		t.Error(err)
	}
	for _, u := range []upstream.Upstream{
		{},
		{Host: "R.io", Scheme: upstream.HTTPS},
		{Host: "r.io", Scheme: "HTTPS"},
		{Host: "r.io"},
		{Host: "r.io/a", Path: "b", Scheme: upstream.HTTPS},
		{Host: "r.io", Path: "b/", Scheme: upstream.HTTPS},
		{Host: "r.io", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u"}},
		{Host: "r.io", Scheme: upstream.HTTPS, CA: "x"},
	} {
		if err := u.Validate(); err == nil {
			t.Errorf("%#v is taken for valid", u)
		}
	}
}

func TestNothingPrintsCredentials(t *testing.T) {
	t.Parallel()
	const secret = "S3CRET"
	u, err := upstream.Parse(upstream.Settings{ImagesRepo: "r.io/d", Username: "u", Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "creds", u.Credentials, "upstream", u)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "creds", u.Credentials, "upstream", u)
	all := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", u, u, u, u, u.Credentials, u.Credentials, u.Credentials) +
		fmt.Sprintf("%v %+v %#v", &u, []upstream.Upstream{u}, struct{ U upstream.Upstream }{u}) + log.String()
	if strings.Contains(all, secret) {
		t.Errorf("the password is in %s", all)
	}
	data, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	var back upstream.Upstream
	if err := json.Unmarshal(data, &back); err != nil || back != u {
		t.Errorf("the encoding that is stored does not round-trip: %v, %v", back, err)
	}
}

func TestIDTellsCredentialsApart(t *testing.T) {
	t.Parallel()
	a := upstream.Upstream{Host: "r.io", Path: "d", Scheme: upstream.HTTPS}
	b := a
	b.Credentials = upstream.Credentials{Username: "u", Password: "p"}
	if again := a; a.ID() == b.ID() || a.ID() != again.ID() || len(a.ID()) != 16 {
		t.Errorf("IDs %s, %s", a.ID(), b.ID())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("registry.example.com:5000/deckhouse/ee", "HTTPS", "", "", "user", "password")
	f.Add("r.io", "http", "", "license", "", "")
	f.Add("10.0.0.1/d", "", certificate(f), "", "", "")
	f.Add("[fd00::1]:5000/d", "", "", "", "_json_key", "{\n}")
	f.Add("[fe80::1%eth0]:5000/d", "", "", "", "robot$x+y", "password\n")
	f.Fuzz(func(t *testing.T, repo, scheme, ca, license, username, password string) {
		u, err := upstream.Parse(upstream.Settings{
			ImagesRepo: repo, Scheme: scheme, CA: ca, License: license, Username: username, Password: password,
		})
		if err != nil {
			checkShowsNoSecret(t, err.Error(), repo+scheme+ca, license, username, password)
			return
		}
		if err := u.Validate(); err != nil {
			t.Errorf("%+v parsed, then refused: %v", u, err)
		}
		checkAddress(t, u)
		if back, err := upstream.ParseAuth(u.Credentials.Auth()); err != nil || back != u.Credentials && !u.Credentials.IsZero() {
			t.Errorf("credentials of %d and %d bytes do not survive base64: %v", len(u.Credentials.Username), len(u.Credentials.Password), err)
		}
		if strings.ContainsAny(u.Credentials.Username, "\n\r\x00\x1b:") || strings.ContainsAny(u.Credentials.Password, "\x00\x1b") {
			t.Errorf("control characters in user name or password")
		}
	})
}

// checkShowsNoSecret looks for secrets that are long enough not to be there by
// chance, and not part of what is shown.
func checkShowsNoSecret(t *testing.T, message, shown string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if len(secret) > 12 && strings.Contains(message, secret) && !strings.Contains(shown, secret) && !strings.Contains(wording, secret) {
			t.Errorf("the error shows a secret: %q", message)
		}
	}
}

// wording is what errors say of any value.
const wording = "'license' and 'username'/'password' are mutually exclusive. 'username' is required when 'password' is provided. " +
	"'password' is required when 'username' is provided. must not contain line breaks and other control characters. " +
	"is one line with a line break or a tab before or after it; remove that (printf '%s' instead of echo)."

// checkAddress demands that host and path mean the same in a URL, in an image
// reference, as a file name and in TOML.
func checkAddress(t *testing.T, u upstream.Upstream) {
	t.Helper()
	parsed, err := url.Parse(u.String())
	if err != nil || parsed.Host != u.Host || parsed.Path != strings.TrimPrefix(u.Base(), u.Host) || parsed.User != nil || parsed.RawQuery != "" {
		t.Errorf("%s is another URL: %v, %v", u, parsed, err)
	}
	if strings.ContainsAny(u.Base(), "\x00\r\n\t\x1b\"'\\ %@") || strings.HasPrefix(u.Host, ".") || strings.ContainsRune(u.Host, '/') {
		t.Errorf("%q is no safe name", u.Base())
	}
	for segment := range strings.SplitSeq(u.Base(), "/") {
		if segment == "" || segment == "." || segment == ".." {
			t.Errorf("segment %q in %q", segment, u.Base())
		}
	}
}
