package judge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// UserAgent is what registries see of us; some refuse an empty one.
const UserAgent = "d8-registry"

// mostChildren is how many entries of one index are asked for. A platform has a few
// variants of an architecture at most.
const mostChildren = 8

// Registry is one registry that is asked for images, and nothing else: no other one
// answers in its place.
type Registry struct {
	Upstream upstream.Upstream
	// Transport shows the upstream's credentials and follows its redirects.
	Transport http.RoundTripper
	// Heard, if set, is told what each answer says that the registry still lets us ask.
	Heard func(Allowance)
}

// Error says why a registry does not serve. Its text follows the registry's name.
type Error struct {
	Outcome Outcome
	text    string
	err     error // what caused it, if it was no answer
}

func (e *Error) Error() string { return e.text }

// Errorf is an Error, for what stands between us and an answer.
func Errorf(outcome Outcome, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Outcome: outcome, text: err.Error(), err: err}
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.err }

// Of is the outcome that an error of this package stands for; NotFound for what only
// says that something is not there, and for others.
func Of(err error) Outcome {
	var known *Error
	if errors.As(err, &known) {
		return known.Outcome
	}
	return NotFound
}

// Ping is nil if the registry answers as one, and accepts us.
func (r Registry) Ping(ctx context.Context) error {
	resp, err := r.do(ctx, http.MethodGet, "", "/v2/") //nolint:bodyclose // Discard closes it
	if err != nil {
		return err
	}
	defer regauth.Discard(resp)
	outcome, reason := OfStatus(resp, r.url(""))
	switch {
	case outcome != Relayed:
		return &Error{Outcome: outcome, text: reason}
	case WebPage(resp.Header):
		return &Error{Outcome: Nonsense, text: errWebPage.Error()}
	}
	return nil
}

// Image is nil if the registry has the image: a manifest that containerd would run,
// and of an index one for each architecture, as in Node.status.nodeInfo. Image is
// below the upstream's path: ":tag", "@sha256:...", "name@sha256:..." or "name:tag".
func (r Registry) Image(ctx context.Context, image string, architectures []string) error {
	repository, reference, digest, err := layout.ManifestOf(layout.NameOf(r.Upstream), image)
	if err != nil {
		return err
	}
	m, err := r.manifest(ctx, repository, reference, digest)
	if err != nil {
		return err
	}
	switch m.Kind {
	case Index:
		return r.children(ctx, repository, m, architectures)
	case Legacy:
		return errors.New("it is of schema 1, which containerd does not run")
	case Artifact:
		return errors.New("it is no image but an artifact")
	case Image:
	}
	return nil
}

// manifest asks with HEAD. What the header does not prove, and an index, whose
// children must be known, is read.
func (r Registry) manifest(ctx context.Context, repository, reference, digest string) (Manifest, error) {
	path := "/v2/" + repository + "/manifests/" + reference
	resp, err := r.do(ctx, http.MethodHead, repository, path)
	if err != nil {
		return Manifest{}, err
	}
	_ = resp.Body.Close()
	switch outcome, reason := OfStatus(resp, r.url("")); {
	case outcome == NotFound:
		return Manifest{}, &Error{Outcome: NotFound, text: "not found"}
	case outcome != Relayed && outcome != Rejected: // some do not know HEAD
		return Manifest{}, &Error{Outcome: outcome, text: reason}
	}
	if kind, _ := kindOf(mediaType(resp.Header)); Convincing(resp, digest) && kind == Image {
		return Manifest{Kind: Image}, nil
	}
	return r.read(ctx, repository, path, digest)
}

func (r Registry) read(ctx context.Context, repository, path, digest string) (Manifest, error) {
	m, _, err := r.fetch(ctx, repository, path, digest)
	return m, err
}

// fetch also returns the bytes of the manifest.
func (r Registry) fetch(ctx context.Context, repository, path, digest string) (Manifest, []byte, error) {
	resp, err := r.do(ctx, http.MethodGet, repository, path)
	if err != nil {
		return Manifest{}, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // not read to its end: it may have none
	outcome, reason := OfStatus(resp, r.url(""))
	switch {
	case outcome == NotFound:
		return Manifest{}, nil, &Error{Outcome: NotFound, text: "not found"}
	case outcome != Relayed:
		return Manifest{}, nil, &Error{Outcome: outcome, text: reason}
	}
	data, err := ReadBody(resp)
	if err != nil {
		return Manifest{}, nil, err
	}
	m, err := Read(resp.Header, data, digest)
	if err != nil {
		return Manifest{}, nil, err
	}
	return m, data, nil
}

// children asks for what the index has for each architecture. The clients of an
// index that was copied without them fail, each at its own.
func (r Registry) children(ctx context.Context, repository string, index Manifest, architectures []string) error {
	var without []string
	asked := 0
	for _, architecture := range architectures {
		found := index.childrenFor(architecture)
		if len(found) == 0 {
			without = append(without, architecture)
		}
		for _, c := range found {
			if asked++; asked > mostChildren {
				break
			}
			if !digestForm.MatchString(c.Digest) {
				return fmt.Errorf("the index names no digest for %s", architecture)
			}
			_, err := r.manifest(ctx, repository, c.Digest, c.Digest)
			if err != nil && Of(err) == NotFound {
				return fmt.Errorf("the manifest for %s %s is not there", architecture, c.Digest)
			}
			if err != nil {
				return fmt.Errorf("the manifest for %s %s: %w", architecture, c.Digest, err)
			}
		}
	}
	if len(without) > 0 {
		return fmt.Errorf("the index has no manifest for %s", strings.Join(without, ", "))
	}
	return nil
}

// childrenFor are the entries that containerd may choose on a Linux node of an
// architecture: those that name it, else those that name no platform at all.
func (m Manifest) childrenFor(architecture string) []Child {
	var named, open []Child
	for _, c := range m.Children {
		p := c.Platform
		switch {
		case p.Architecture == "" && p.OS == "":
			open = append(open, c)
		case normal(p.Architecture) == normal(architecture) && (p.OS == "linux" || p.OS == ""):
			named = append(named, c)
		}
	}
	if len(named) == 0 {
		return open
	}
	return named
}

// normal is an architecture's name as Go spells it; containerd takes both.
func normal(architecture string) string {
	switch a := strings.ToLower(architecture); a {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	default:
		return a
	}
}

func (r Registry) url(path string) *url.URL {
	to := r.Upstream.Origin()
	to.Path = path
	return to
}

func (r Registry) do(ctx context.Context, method, repository, path string) (*http.Response, error) {
	if repository != "" {
		ctx = regauth.WithRepository(ctx, repository)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url(path).String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("User-Agent", UserAgent)
	if repository != "" {
		req.Header["Accept"] = Accept()
	}
	resp, err := r.Transport.RoundTrip(req)
	if err != nil {
		outcome, reason := OfError(err)
		return nil, &Error{Outcome: outcome, text: reason, err: err}
	}
	if said := AllowanceOf(resp, time.Now()); r.Heard != nil && said != (Allowance{}) {
		r.Heard(said)
	}
	return resp, nil
}
