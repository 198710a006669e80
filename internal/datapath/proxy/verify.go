package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

// outcomeOf says what an answer to sent means before its body is read, and the reason
// if it is not to be relayed.
func outcomeOf(resp *http.Response, pull oci.Pull, sent *http.Request) (judge.Outcome, string) {
	outcome, reason := judge.OfStatus(resp, sent.URL)
	if outcome != judge.Relayed || resp.StatusCode >= http.StatusMultipleChoices {
		return outcome, reason
	}
	said := resp.Header.Get("Docker-Content-Digest")
	if pull.ByDigest() && pull.Kind != oci.KindReferrers && oci.IsDigest(said) &&
		len(said) == len(pull.Reference) && said != pull.Reference {
		return judge.WrongDigest, "answered with another digest"
	}
	whole := resp.StatusCode == http.StatusOK && pull.IsLayer(sent.Method) // its bytes decide, see collectBlob
	if judge.WebPage(resp.Header) && !whole && (said == "" || said != pull.Reference) {
		return judge.Nonsense, "answered with a web page"
	}
	return judge.Relayed, ""
}

// collect reads what will not be streamed, while the time for the header still
// runs: a manifest or a list, which is judged, and errors, which are rewritten. sent is
// the request that was answered.
func (t *target) collect(resp *http.Response, x *exchange, sent *http.Request) (judge.Outcome, string) {
	pull, whole := x.pull, resp.StatusCode == http.StatusOK
	switch {
	case pull.Kind == oci.KindManifests && whole:
		return t.collectManifest(resp, pull, sent)
	case sent.Method != http.MethodGet:
		return judge.Relayed, ""
	case pull.Kind == oci.KindBlobs && whole:
		return collectBlob(resp, x)
	case !whole && resp.StatusCode < http.StatusBadRequest:
		return judge.Relayed, ""
	}
	data, err := collectJSON(resp, pull)
	if err != nil {
		return judge.OfError(err)
	}
	resp.Body = limitedBody{bytes.NewReader(data), resp.Body}
	return judge.Relayed, ""
}

// collectJSON reads an error or a list.
func collectJSON(resp *http.Response, pull oci.Pull) (data []byte, err error) {
	switch {
	case resp.StatusCode >= http.StatusBadRequest:
		return judge.ReadWhole(resp, oci.MaxError, "error")
	case pull.Kind == oci.KindReferrers:
		if data, err = judge.ReadWhole(resp, judge.Limit, "list of referrers"); err == nil {
			err = judge.Referrers(resp.Header, data)
		}
	default:
		if data, err = judge.ReadWhole(resp, oci.MaxTags, "list of tags"); err == nil {
			err = judge.Tags(data)
		}
	}
	if _, reason := oci.Links(resp, pull); reason != "" && err == nil {
		err = judge.Errorf(judge.Nonsense, "%s", reason)
	}
	return data, err
}

// collectManifest reads a manifest and judges it. containerd does the same, but then
// fails the pull and asks no other host; here the next upstream is asked. containerd
// goes by the header of a HEAD: one that says too little is answered by a GET.
// Layers are not read: they are streamed.
func (t *target) collectManifest(resp *http.Response, pull oci.Pull, sent *http.Request) (judge.Outcome, string) {
	digest := ""
	if pull.ByDigest() {
		digest = pull.Reference
	}
	body := resp
	if sent.Method == http.MethodHead {
		if judge.Convincing(resp, digest) {
			return judge.Relayed, ""
		}
		got, outcome, reason := t.getInstead(resp, pull, sent)
		if got == nil {
			return outcome, reason
		}
		defer func() { _ = got.Body.Close() }()
		body = got
	}
	data, err := judge.ReadBody(body)
	if said, known := pull.DigestOf(resp); err != nil && data != nil && body == resp && known && said != digest {
		// What a tag meant here is known: the rest comes by digest, see resume.
		resp.Body = limitedBody{io.MultiReader(bytes.NewReader(data), broken{err}), resp.Body}
		return judge.Relayed, ""
	}
	var manifest judge.Manifest
	if err == nil {
		manifest, err = t.judged.read(body.Header, data, digest)
	}
	if err != nil {
		return judge.OfError(err)
	}
	describe(resp, manifest, data, digest)
	if body == resp {
		resp.Body = limitedBody{bytes.NewReader(data), resp.Body}
	}
	return judge.Relayed, ""
}

// getInstead repeats a HEAD as a GET. The answer is nil, and says why, if it has no
// body to judge: then its status and header stand for those of the HEAD, which are wrong.
func (t *target) getInstead(resp *http.Response, pull oci.Pull, head *http.Request) (*http.Response, judge.Outcome, string) {
	asked := head.Clone(head.Context())
	asked.Method = http.MethodGet
	got, err := t.transport.RoundTrip(asked)
	if err != nil {
		if wait := judge.WaitOf(err, time.Now()); wait > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
		}
		outcome, reason := judge.OfError(err)
		return nil, outcome, reason
	}
	outcome, reason := outcomeOf(got, pull, asked)
	if outcome != judge.Relayed || got.StatusCode != http.StatusOK {
		regauth.Discard(got)
		resp.StatusCode, resp.Status, resp.Header = got.StatusCode, got.Status, got.Header
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
	resp.Header.Del("Content-Encoding") // what was read is decoded
	resp.ContentLength = int64(len(data))
	resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
}
