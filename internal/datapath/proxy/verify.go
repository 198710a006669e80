package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// outcomeOf says what an answer to sent means before its body is read, and the reason
// if it is not to be relayed.
func outcomeOf(resp *http.Response, pull Pull, sent *http.Request) (judge.Outcome, string) {
	outcome, reason := judge.OfStatus(resp, sent.URL)
	if outcome != judge.Relayed || resp.StatusCode >= http.StatusMultipleChoices {
		return outcome, reason
	}
	said := resp.Header.Get("Docker-Content-Digest")
	if pull.byDigest() && pull.Kind != KindReferrers && digestPattern.MatchString(said) &&
		len(said) == len(pull.Reference) && said != pull.Reference {
		return judge.WrongDigest, "answered with another digest"
	}
	if judge.WebPage(resp.Header) && (said == "" || said != pull.Reference) {
		return judge.ServerError, "answered with a web page"
	}
	if resp.StatusCode == http.StatusPartialContent && sent.Header.Get("Range") == "" {
		return judge.ServerError, "answered with a part, and the whole was asked for"
	}
	return judge.Relayed, ""
}

// collect reads what will not be streamed, while the time for the header still
// runs: a manifest, which is judged; tags and errors, which are rewritten. sent is the
// request that was answered.
func (t *target) collect(resp *http.Response, pull Pull, sent *http.Request) (judge.Outcome, string) {
	get := sent.Method == http.MethodGet
	switch {
	case pull.Kind == KindManifests && resp.StatusCode == http.StatusOK:
		return t.collectManifest(resp, pull, sent)
	case get && resp.StatusCode >= http.StatusBadRequest:
		return readWhole(resp, maxErrorBody, "error")
	case get && resp.StatusCode == http.StatusOK && pull.Kind == KindTags:
		return readWhole(resp, maxTagsBody, "list of tags")
	}
	return judge.Relayed, ""
}

func readWhole(resp *http.Response, limit int64, what string) (judge.Outcome, string) {
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return judge.NoConnection, fmt.Sprintf("read the %s: %v", what, err)
	case int64(len(data)) > limit:
		return judge.ServerError, fmt.Sprintf("the %s is larger than %d bytes", what, limit)
	}
	resp.Body = limitedBody{bytes.NewReader(data), resp.Body}
	return judge.Relayed, ""
}

// collectManifest reads a manifest and judges it. containerd does the same, but then
// fails the pull and asks no other host; here the next upstream is asked. containerd
// goes by the header of a HEAD: one that says too little is answered by a GET.
// Layers are not read: they are streamed.
func (t *target) collectManifest(resp *http.Response, pull Pull, sent *http.Request) (judge.Outcome, string) {
	digest := ""
	if pull.byDigest() {
		digest = pull.Reference
	}
	body := resp
	if sent.Method == http.MethodHead {
		if judge.Convincing(resp, digest) {
			return judge.Relayed, ""
		}
		got, outcome, reason := t.getInstead(pull, sent)
		if got == nil {
			return outcome, reason
		}
		defer func() { _ = got.Body.Close() }()
		body = got
	}
	data, err := judge.ReadBody(body.Body)
	if err != nil && !errors.Is(err, judge.ErrLarge) {
		if said, known := digestOf(pull, resp); body == resp && known && said != digest {
			// What a tag meant here is known: the rest comes by digest, see resume.
			resp.Body = limitedBody{io.MultiReader(bytes.NewReader(data), broken{err}), resp.Body}
			return judge.Relayed, ""
		}
		return judge.NoConnection, err.Error()
	}
	var manifest judge.Manifest
	if err == nil {
		manifest, err = judge.Read(body.Header, data, digest)
	}
	switch {
	case errors.Is(err, judge.ErrDigest):
		return judge.WrongDigest, err.Error()
	case err != nil:
		return judge.ServerError, err.Error()
	}
	describe(resp, manifest, data, digest)
	if body == resp {
		resp.Body = limitedBody{bytes.NewReader(data), resp.Body}
	}
	return judge.Relayed, ""
}

// getInstead repeats a HEAD as a GET. The answer is nil, and says why, if it has no
// body to judge.
func (t *target) getInstead(pull Pull, head *http.Request) (*http.Response, judge.Outcome, string) {
	asked := head.Clone(head.Context())
	asked.Method = http.MethodGet
	got, err := t.transport.RoundTrip(asked)
	if err != nil {
		return nil, judge.OfError(err), err.Error()
	}
	outcome, reason := outcomeOf(got, pull, asked)
	if outcome != judge.Relayed || got.StatusCode != http.StatusOK {
		regauth.Discard(got)
		return nil, outcome, reason
	}
	return got, outcome, ""
}

// broken is the end of a body that broke.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// describe puts into the header what containerd must know and the upstream did not
// say: some answer with application/json, some with nothing.
func describe(resp *http.Response, m judge.Manifest, data []byte, digest string) {
	// The digest of schema 1 is that of its payload, without signatures: the registry knows.
	if judge.Convincing(resp, digest) || m.Kind == judge.Legacy && resp.Header.Get("Docker-Content-Digest") != "" {
		return
	}
	resp.Header.Set("Content-Type", m.MediaType)
	resp.Header.Set("Docker-Content-Digest", judge.DigestLike(digest, data))
	if resp.Header.Get("Content-Encoding") == "" {
		resp.ContentLength = int64(len(data))
		resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
	}
}
