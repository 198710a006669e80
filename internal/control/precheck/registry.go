package precheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// The media types that containerd accepts.
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// indexLimit is the largest index that registries accept, in bytes.
const indexLimit = 4 << 20

// Refusals that users see, after the registry's name.
var (
	errNotFound = errors.New("not found")
	errTimeout  = errors.New("Request timeout") // users of the module know it in these words
)

// refusedError is an error that every image would get.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// refusesAll reports whether an error is about the registry and not about one
// image.
func refusesAll(err error) bool {
	var refusal *refusedError
	return errors.As(err, &refusal) || errors.Is(err, errTimeout)
}

type registry struct {
	upstream upstream.Upstream
	client   *http.Client
}

func (c Checker) open(u upstream.Upstream) (registry, error) {
	transport, err := c.Transport(u)
	if err != nil {
		return registry{}, &refusedError{fmt.Errorf("set up the connection: %w", err)}
	}
	return registry{upstream: u, client: &http.Client{
		Transport: transport,
		// The transport follows redirects: it knows where credentials may go.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ping checks whether the registry accepts us at all.
func (r registry) ping(ctx context.Context) error {
	resp, err := r.do(ctx, http.MethodGet, "/v2/")
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return r.problemOf(resp)
}

// has checks one image with HEAD. If it is an index that must have certain
// architectures, it is also read.
func (r registry) has(ctx context.Context, image string, architectures []string) error {
	path, digest, err := layout.ManifestPath(r.upstream.Path, image)
	if err != nil {
		return err
	}
	resp, err := r.do(ctx, http.MethodHead, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := r.problemOf(resp); err != nil {
		return err
	}
	if got := resp.Header.Get("Docker-Content-Digest"); digest != "" && got != "" && got != digest {
		return fmt.Errorf("the registry has %s under this digest", got)
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	if kind = strings.TrimSpace(kind); len(architectures) == 0 || kind != ociIndex && kind != dockerList {
		return nil
	}
	return r.hasArchitectures(ctx, path, architectures)
}

func (r registry) hasArchitectures(ctx context.Context, path string, want []string) error {
	resp, err := r.do(ctx, http.MethodGet, path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return r.problemOf(resp)
	}
	type manifest struct {
		Platform struct {
			Architecture string `json:"architecture"`
			OS           string `json:"os"`
		} `json:"platform"`
	}
	var index struct {
		Manifests []manifest `json:"manifests"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, indexLimit)).Decode(&index); err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	var missing []string
	for _, architecture := range want {
		if !slices.ContainsFunc(index.Manifests, func(m manifest) bool { return m.Platform.Architecture == architecture && m.Platform.OS != "windows" }) {
			missing = append(missing, architecture)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the index has no %s", strings.Join(missing, ", "))
	}
	return nil
}

func (r registry) do(ctx context.Context, method, path string) (*http.Response, error) {
	target := url.URL{Scheme: string(r.upstream.Scheme), Host: r.upstream.Host, Path: path}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header["Accept"] = []string{ociIndex, dockerList, ociManifest, dockerManifest}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, &refusedError{err}
	}
	return resp, nil
}

// problemOf turns a status into an error. A 429 and a 5xx are the registry's
// problem and not the image's.
func (r registry) problemOf(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusNotFound:
		return errNotFound
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return &refusedError{fmt.Errorf("%d %s: the credentials were refused", code, http.StatusText(code))}
	case code == http.StatusTooManyRequests, code >= 500:
		return &refusedError{fmt.Errorf("%d %s", code, http.StatusText(code))}
	default:
		return fmt.Errorf("%d %s", code, http.StatusText(code))
	}
}

// query matches the part of a URL that may have signatures and tokens.
var query = regexp.MustCompile(`\?[^\s"']*`)

// safe is the error on one line, without credentials and signatures, so that a
// condition may show it. The registry has a say in it: its certificate's names, its
// addresses of redirects.
func safe(err error, u upstream.Upstream) string {
	var wrapped *url.Error
	text := err.Error()
	if errors.As(err, &wrapped) {
		text = strings.Replace(text, wrapped.Error(), wrapped.Err.Error(), 1)
	}
	text = query.ReplaceAllString(text, "")
	if p := u.Credentials.Password; p != "" {
		text = strings.ReplaceAll(text, p, "redacted")
		text = strings.ReplaceAll(text, url.QueryEscape(p), "redacted")
	}
	return foreign.Line(text, foreign.Sentence)
}
