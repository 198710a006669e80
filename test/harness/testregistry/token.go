package testregistry

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// TokenIssuer is a token server whose JWTs a real distribution registry
// accepts: configure it with auth.token of the same service and issuer, and
// with the certificate that SelfSigned returned as rootcertbundle.
type TokenIssuer struct {
	Issuer, Service string
	// Username and Password may pull and push; without a Username anybody may.
	Username, Password string
	TTL                time.Duration // 0 means 5 minutes
	// Certificate signs the tokens; see SelfSigned.
	Certificate tls.Certificate

	issued atomic.Int64
}

// Issued is how many tokens were handed out.
func (i *TokenIssuer) Issued() int64 { return i.issued.Load() }

type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// ServeHTTP grants every scope that is asked for.
func (i *TokenIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, password, _ := r.BasicAuth()
	if i.Username != "" && (subtle.ConstantTimeCompare([]byte(name), []byte(i.Username)) != 1 ||
		subtle.ConstantTimeCompare([]byte(password), []byte(i.Password)) != 1) {
		writeError(w, http.StatusUnauthorized, "UNAUTHORIZED", "wrong user or password")
		return
	}
	var granted []access
	for _, scope := range r.URL.Query()["scope"] {
		first, last := strings.Index(scope, ":"), strings.LastIndex(scope, ":")
		if first < 0 || first == last {
			continue
		}
		granted = append(granted, access{scope[:first], scope[first+1 : last], strings.Split(scope[last+1:], ",")})
	}
	ttl := i.TTL
	if ttl == 0 {
		ttl = 5 * time.Minute
	}
	token, err := i.sign(name, granted, ttl)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	i.issued.Add(1)
	w.Header().Set("Content-Type", "application/json")
	// The client may be gone.
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": int(ttl.Seconds())})
}

// sign makes a JWT with ES256, by hand: it is three fields and a signature.
func (i *TokenIssuer) sign(subject string, granted []access, ttl time.Duration) (string, error) {
	key, ok := i.Certificate.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || len(i.Certificate.Certificate) == 0 {
		return "", errors.New("the token issuer has no ECDSA certificate")
	}
	now := time.Now()
	header, err := json.Marshal(map[string]any{
		"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(i.Certificate.Certificate[0])},
	})
	if err != nil {
		return "", fmt.Errorf("encode the token's header: %w", err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": i.Issuer, "sub": subject, "aud": i.Service, "jti": rand.Text(), "access": granted,
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(ttl).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("encode the token's claims: %w", err)
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign the token: %w", err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
