package handoff

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/layout"
)

// Status is what serve says of itself.
type Status struct {
	// Generation and Version are those of the layout that requests are routed
	// by, which is on disk; 0 and "" before the first.
	Generation int64  `json:"generation"`
	Version    string `json:"version"`
	// Ahead is set when the published layout has a lower generation, or the same and
	// other content.
	Ahead bool `json:"ahead"`
	// Absent is set when the API server was asked and has no layout.
	Absent bool `json:"absent,omitempty"`
	// Problem says why the published layout is not the one that is served, for
	// people; empty when it is.
	Problem string `json:"problem,omitempty"`
	// TargetFails says that all pulls from the target have failed for a while, and
	// why; empty when they have not.
	TargetFails string `json:"targetFails,omitempty"`
	// Revision changes with every change of the rest; never 0.
	Revision int64 `json:"revision"`
}

// Paths of the questions, all of which need the node token, and their limit.
const (
	PathStatus  = "/-/generation"
	PathProof   = "/-/proof/"
	PathApplied = "/-/applied/"
	PathForget  = "/-/forget/"
	// PathMirrors tells serve that the file of SaveMirrors has changed.
	PathMirrors = "/-/mirrors"
	// MaxWait is the longest time after which serve answers a question.
	MaxWait = 50 * time.Second
)

// ProofRepository is a repository below every name. Only proofs ask for it.
const ProofRepository = "registry-proof"

// Client asks serve.
type Client struct {
	url    string
	header string
	token  string
	http   *http.Client
}

// NewClient makes a client of the serve that shares the state directory. header
// is the one that carries the token. It fails until serve was started once.
func NewClient(address string, folder StateDir, header string) (*Client, error) {
	token, errToken := folder.Token()
	ca, errCA := folder.CA()
	if err := cmp.Or(errToken, errCA); err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, errors.New("the agent's CA holds no certificate")
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     time.Minute,
		// Loopback never goes through the corporate proxy.
		Proxy: nil,
	}
	return &Client{url: address, header: header, token: token, http: &http.Client{Transport: transport, Timeout: MaxWait + 10*time.Second}}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Wait returns when serve's status differs from the one that was seen, or after
// MaxWait. With the zero Status it returns at once.
func (c *Client) Wait(ctx context.Context, seen Status) (Status, error) {
	query := url.Values{}
	if seen != (Status{}) {
		query.Set("after", strconv.FormatInt(seen.Generation, 10))
		query.Set("revision", strconv.FormatInt(seen.Revision, 10))
	}
	var now Status
	err := c.ask(ctx, http.MethodGet, PathStatus+"?"+query.Encode(), &now)
	return now, err
}

// Expect tells serve that a pull of the nonce below the name will come.
func (c *Client) Expect(ctx context.Context, nonce string, name layout.Name) error {
	return c.ask(ctx, http.MethodPost, PathProof+url.PathEscape(nonce)+"?"+url.Values{"host": {name.Host}, "path": {name.Path}}.Encode(), nil)
}

// Arrival is what became of an expected pull.
type Arrival struct {
	Seen bool `json:"seen"`
	// Peer is the address on loopback that the pull came from. Its connection
	// is still there: serve keeps the pull waiting.
	Peer string `json:"peer,omitempty"`
}

// Seen waits for the nonce and reports whether it arrived, and from where. serve
// forgets the nonce when it answers.
func (c *Client) Seen(ctx context.Context, nonce string, wait time.Duration) (Arrival, error) {
	var answer Arrival
	err := c.ask(ctx, http.MethodGet, PathProof+url.PathEscape(nonce)+"?wait="+url.QueryEscape(wait.String()), &answer)
	return answer, err
}

// Applied tells serve that containerd's host directories are those of the
// generation: routes of other names may go.
func (c *Client) Applied(ctx context.Context, generation int64) error {
	return c.ask(ctx, http.MethodPost, PathApplied+strconv.FormatInt(generation, 10), nil)
}

// Forget tells serve that nothing on the node sends containerd to it any more.
// When no pull has come for a while, serve drops the layout and is as before the
// first one.
func (c *Client) Forget(ctx context.Context, generation int64) error {
	return c.ask(ctx, http.MethodPost, PathForget+strconv.FormatInt(generation, 10), nil)
}

// Mirrors tells serve to read what SaveMirrors saved. It fails if serve cannot
// use that; then serve goes on with what it had.
func (c *Client) Mirrors(ctx context.Context) error {
	return c.ask(ctx, http.MethodPost, PathMirrors, nil)
}

// ask reads the answer into answer, if that is not nil.
func (c *Client) ask(ctx context.Context, method, path string, answer any) error {
	data, err := c.do(ctx, method, path)
	if err == nil && answer != nil {
		err = json.Unmarshal(data, answer)
	}
	if err != nil {
		return fmt.Errorf("ask the serving agent: %w", err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(c.header, c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status)
	}
	return data, err
}
