package upstream_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
		"nothing":              {repo(" / "), "imagesRepo", "'imagesRepo' is required."},
		"scheme in it":         {repo("https://r.io/d"), "imagesRepo", "without scheme"},
		"credentials in it":    {repo("u:" + secret + "@r.io/d"), "imagesRepo", "without scheme, credentials"},
		"digest":               {repo("r.io/d@sha256:00"), "imagesRepo", "digest"},
		"tag":                  {repo("r.io/d:v1"), "imagesRepo", "path segment"},
		"port 0":               {repo("r.io:0/d"), "imagesRepo", "1 to 65535"},
		"port 65536":           {repo("r.io:65536/d"), "imagesRepo", "1 to 65535"},
		"port 080":             {repo("r.io:080/d"), "imagesRepo", "1 to 65535"},
		"empty port":           {repo("r.io:/d"), "imagesRepo", "1 to 65535"},
		"two ports":            {repo("r.io:1:2/d"), "imagesRepo", "1 to 65535"},
		"IPv6":                 {repo("[fd00::1]:5000/d"), "imagesRepo", "port"},
		"bad IP":               {repo("10.0.0.256/d"), "imagesRepo", "IPv4"},
		"short IP":             {repo("10.1/d"), "imagesRepo", "IPv4"},
		"underscore":           {repo("my_host.io/d"), "imagesRepo", "DNS name"},
		"leading hyphen":       {repo("-a.io/d"), "imagesRepo", "DNS name"},
		"empty label":          {repo("a..io/d"), "imagesRepo", "DNS name"},
		"no dot, no port":      {repo("deckhouse/ee"), "imagesRepo", "needs a port"},
		"dot-dot":              {repo("r.io/a/../b"), "imagesRepo", "'..'"},
		"dot":                  {repo("r.io/./b"), "imagesRepo", "'.'"},
		"empty segment":        {repo("r.io/a//b"), "imagesRepo", "path segment"},
		"newline":              {repo("r.io/a\nb"), "imagesRepo", "path segment"},
		"NUL":                  {repo("r.io\x00/a"), "imagesRepo", "DNS name"},
		"shell":                {repo("r.io/$(id)"), "imagesRepo", "path segment"},
		"too long":             {repo("r.io/" + strings.Repeat("a", 255)), "imagesRepo", "longer"},
		"fixed address":        {repo("registry.d8-system.svc:5001/system/deckhouse"), "imagesRepo", "own address"},
		"fixed address, long":  {repo("Registry.d8-system.svc.cluster.local/x"), "imagesRepo", "own address"},
		"unknown scheme":       {upstream.Settings{ImagesRepo: "r.io", Scheme: "ftp"}, "scheme", "'HTTP' or 'HTTPS'"},
		"license and user":     {auth(secret, "u", ""), "license", "mutually exclusive"},
		"license and password": {auth("l", "", secret), "license", "mutually exclusive"},
		"no password":          {auth("", "u", ""), "password", "'password' is required when 'username' is provided."},
		"no user":              {auth("", "", secret), "username", "'username' is required when 'password' is provided."},
		"password line break":  {auth("", "u", secret+"\n"), "password", "line breaks"},
		"license not UTF-8":    {auth(secret+"\xff", "", ""), "license", "UTF-8"},
		"license too long":     {auth(strings.Repeat("a", 5000), "", ""), "license", "longer"},
		"colon in user":        {auth("", "a:b", secret), "username", "':'"},
		"user too long":        {auth("", strings.Repeat("a", 256), secret), "username", "longer"},
		"C1 control":           {auth("", "u\u0085", secret), "username", "control"},
		"CA with HTTP":         {upstream.Settings{ImagesRepo: "r.io", Scheme: "HTTP", CA: ca}, "ca", "CA is not allowed when scheme is 'HTTP'."},
		"CA no PEM":            {upstream.Settings{ImagesRepo: "r.io", CA: secret}, "ca", "PEM"},
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
	f.Fuzz(func(t *testing.T, repo, scheme, ca, license, username, password string) {
		u, err := upstream.Parse(upstream.Settings{
			ImagesRepo: repo, Scheme: scheme, CA: ca, License: license, Username: username, Password: password,
		})
		if err != nil {
			return
		}
		if err := u.Validate(); err != nil {
			t.Errorf("%+v parsed, then refused: %v", u, err)
		}
		for _, s := range []string{u.Base(), u.Credentials.Username, u.Credentials.Password} {
			if strings.ContainsAny(s, "\n\r\x00\x1b") {
				t.Errorf("control characters in %q", s)
			}
		}
		for segment := range strings.SplitSeq(u.Base(), "/") {
			if segment == "" || segment == "." || segment == ".." {
				t.Errorf("segment %q in %q", segment, u.Base())
			}
		}
	})
}
