package machine

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/test/harness/cert"
)

const (
	tokenIssuer = "demo-tokens"
	tokenPort   = "5443"
	// tokenLife is short, so that tokens are renewed while the demo runs.
	tokenLife = time.Minute
)

// tokenServer hands out the tokens that a Bearer registry demands. It runs in
// our own process, on an address of the registry's namespace.
type tokenServer struct {
	realm, service string
	cert           []byte // PEM of the certificate that tokens are verified with
	key            *ecdsa.PrivateKey
	actions        []string // what a token is good for

	mu    sync.Mutex
	users map[string]string
}

func startTokenServer(ctx context.Context, r *Run, space *Space, ca *cert.Authority, o RegistryOptions) (*tokenServer, error) {
	host := hostOf(o.Host)
	certPEM, keyPEM, err := ca.Issue(pkix.Name{CommonName: "tokens of " + host})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(keyPEM)
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key for tokens: %w", err)
	}
	t := &tokenServer{
		realm: "https://" + net.JoinHostPort(host, tokenPort) + "/token", service: host,
		cert: certPEM, key: key, users: o.Users, actions: []string{"pull"},
	}
	if o.Writable {
		t.actions = append(t.actions, "push")
	}
	config, err := ca.ServerConfig(host)
	if err != nil {
		return nil, err
	}
	listener, err := space.Listen(ctx, net.JoinHostPort(space.IP.String(), tokenPort))
	if err != nil {
		return nil, fmt.Errorf("token server of %s: %w", host, err)
	}
	server := &http.Server{Handler: t, TLSConfig: config, ReadHeaderTimeout: stopAfter}
	r.OnClose(func() { _ = server.Close() })
	go func() { _ = server.ServeTLS(listener, "", "") }() // until Close
	return t, nil
}

func (t *tokenServer) setUsers(users map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.users = users
}

// ServeHTTP answers GET /token?service=…&scope=repository:NAME:pull with Basic
// credentials.
func (t *tokenServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	user, password, _ := req.BasicAuth()
	t.mu.Lock()
	want, known := t.users[user]
	t.mu.Unlock()
	if !known || want != password {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong credentials"}]}`, http.StatusUnauthorized)
		return
	}
	token, err := t.sign(user, req.URL.Query()["scope"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": token, "expires_in": int(tokenLife.Seconds()), "issued_at": time.Now().UTC().Format(time.RFC3339),
	}) // the client has gone if this fails
}

func (t *tokenServer) sign(user string, scopes []string) (string, error) {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for _, scope := range scopes {
		if parts := strings.Split(scope, ":"); len(parts) == 3 && parts[0] == "repository" {
			granted = append(granted, access{"repository", parts[1], t.actions})
		}
	}
	block, _ := pem.Decode(t.cert)
	header, err := json.Marshal(map[string]any{
		"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(block.Bytes)},
	})
	if err != nil {
		return "", err
	}
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": tokenIssuer, "sub": user, "aud": t.service, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(tokenLife).Unix(),
		"access": granted,
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, t.key, sum[:])
	if err != nil {
		return "", err
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(append(fixed(r), fixed(s)...)), nil
}

// fixed is a number of a P-256 signature in 32 bytes.
func fixed(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
