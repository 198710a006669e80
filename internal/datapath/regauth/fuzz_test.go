package regauth

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
)

// demanding is a registry that wants what its header says, and whatever it names as a
// token server. It sees to it that the password goes where it may.
type demanding struct {
	t         *testing.T
	challenge []string
	token     string // the token server's answer
	location  string // its redirect
	issuer    *url.URL
	asked     int
}

const fuzzedPassword = "p-secret-p"

func (d *demanding) RoundTrip(req *http.Request) (*http.Response, error) {
	if d.asked++; d.asked > 2+mostRealmRedirects+1 {
		d.t.Fatal("it asks without an end")
	}
	origin := &url.URL{Scheme: "https", Host: "r.example.com"}
	shown := req.Header.Get("Authorization")
	if strings.HasPrefix(shown, "Basic ") && req.URL.Scheme != "https" || ValidateHop(origin, req.URL) != nil || strings.ContainsAny(shown, "\r\n") {
		d.t.Errorf("%s was shown %q", req.URL, shown)
	}
	resp := &http.Response{StatusCode: http.StatusOK, Status: "200 OK", Header: http.Header{}, Body: http.NoBody, Request: req}
	switch {
	case req.URL.Path == "/v2/a/manifests/v1" && SameOrigin(origin, req.URL):
		resp.StatusCode, resp.Header = http.StatusUnauthorized, http.Header{"Www-Authenticate": d.challenge}
	case d.issuer != nil && !SameServer(d.issuer, req.URL):
		d.t.Errorf("%s sent us to %s", d.issuer, req.URL)
	case d.location != "":
		d.issuer = req.URL
		resp.StatusCode, resp.Header = http.StatusFound, http.Header{"Location": {d.location}}
		d.location = ""
	default:
		resp.Body = io.NopCloser(strings.NewReader(d.token))
	}
	return resp, nil
}

// FuzzChallenge: whatever a registry and its token server say, our password goes over
// HTTPS alone and to no address that is not allowed, and it all ends.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.example.com/token",service="r",scope="repository:a:pull"`, `{"token":"t"}`, "")
	f.Add("BASIC realm=x\nBearer realm=\"http://auth.example.com\"", `{"access_token":"t","expires_in":"x"}`, "/token/")
	f.Add(`Bearer realm="https://169.254.169.254/",scope="* * * * * *", Basic`, `[]`, "https://b.example.com")
	f.Add(`Bearer realm="https://r.example.com/v2/a/manifests/v1"`, ``, "//a:b@r.example.com")
	f.Add(`Bearer realm="https://auth.example.com/token"`, `{"token":"t"}`, "https://b.example.com/token")
	f.Fuzz(func(t *testing.T, challenge, token, location string) {
		oneLine := strings.NewReplacer("\r", " ", "\x00", " ")
		d := &demanding{
			t: t, challenge: strings.Split(oneLine.Replace(challenge), "\n"), token: token,
			location: strings.ReplaceAll(oneLine.Replace(location), "\n", " "),
		}
		u := upstream.Upstream{Host: "r.example.com", Scheme: upstream.HTTPS, Credentials: upstream.Credentials{Username: "u", Password: fuzzedPassword}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://r.example.com/v2/a/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := NewTransport(u, "/v2", d).RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			return
		}
		if secret := base64.StdEncoding.EncodeToString([]byte("u:" + fuzzedPassword)); strings.Contains(err.Error(), fuzzedPassword) || strings.Contains(err.Error(), secret) {
			t.Errorf("the password is in %q", err)
		}
	})
}

// FuzzToken: whatever a token server answers, a token fits a header and has an end, and
// nothing of the answer is in the error.
func FuzzToken(f *testing.F) {
	for _, s := range []string{`{"token":"t","expires_in":60}`, `{"access_token":"t","expires_in":"1e999"}`, `{"token":"a b"}`, `{"token":null}`, "<html>", `{"token":"t","expires_in":-1}`, `{"token":"t","expires_in":"NaN"}`} {
		f.Add(200, []byte(s))
		f.Add(429, []byte(s))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		token, life, err := readToken("auth.example.com", &http.Response{
			StatusCode: status, Status: "status", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)),
		}, true)
		switch {
		case err == nil && (token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) || life <= 0 || life > maxTokenLife):
			t.Errorf("token %q for %s", token, life)
		case err != nil && (len(err.Error()) > 200 || foreign.Line(err.Error(), 200) != err.Error()):
			t.Errorf("error %q", err)
		}
	})
}
