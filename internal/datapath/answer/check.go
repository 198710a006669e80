package answer

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

// Asked is a request that was answered.
type Asked struct {
	Pull   oci.Pull
	Sent   *http.Request     // as the upstream got it
	Others bool              // another upstream could serve as well
	Again  http.RoundTripper // asks the same upstream once more
}

// Checker judges what upstreams answer. The zero value works.
type Checker struct{ judged judged }

// Check says what an answer means, and the reason if it is not to be relayed. What will not
// be streamed is read here, while the time for the header still runs: a manifest or a list,
// which is judged, and errors, which are rewritten. proved says that the body has the
// digest that was asked for.
func (c *Checker) Check(resp *http.Response, asked Asked) (o judge.Outcome, reason string, proved bool) {
	if o, reason = outcomeOf(resp, asked.Pull, asked.Sent); o != judge.Relayed {
		return o, reason, false
	}
	pull, whole := asked.Pull, resp.StatusCode == http.StatusOK
	switch {
	case pull.Kind == oci.KindManifests && whole:
		o, reason = c.collectManifest(resp, asked)
		return o, reason, false
	case asked.Sent.Method != http.MethodGet:
		return judge.Relayed, "", false
	case pull.Kind == oci.KindBlobs && whole:
		return collectBlob(resp, asked)
	case !whole && resp.StatusCode < http.StatusBadRequest:
		return judge.Relayed, "", false
	}
	data, err := collectJSON(resp, pull)
	if err != nil {
		o, reason = judge.OfError(err)
		return o, reason, false
	}
	resp.Body = joined{bytes.NewReader(data), resp.Body}
	return judge.Relayed, "", false
}

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
func (c *Checker) collectManifest(resp *http.Response, asked Asked) (judge.Outcome, string) {
	pull, digest := asked.Pull, ""
	if pull.ByDigest() {
		digest = pull.Reference
	}
	body := resp
	if asked.Sent.Method == http.MethodHead {
		if judge.Convincing(resp, digest) {
			return judge.Relayed, ""
		}
		got, outcome, reason := getInstead(resp, asked)
		if got == nil {
			return outcome, reason
		}
		defer func() { _ = got.Body.Close() }()
		body = got
	}
	data, err := judge.ReadBody(body)
	if said, known := pull.DigestOf(resp); err != nil && data != nil && body == resp && known && said != digest {
		// What a tag meant here is known: the rest comes by digest, see package fetch.
		resp.Body = joined{io.MultiReader(bytes.NewReader(data), broken{err}), resp.Body}
		return judge.Relayed, ""
	}
	var manifest judge.Manifest
	if err == nil {
		manifest, err = c.readManifest(body, pull, data, digest)
	}
	if err != nil {
		return judge.OfError(err)
	}
	describe(resp, manifest, data, digest)
	if body == resp {
		resp.Body = joined{bytes.NewReader(data), resp.Body}
	}
	return judge.Relayed, ""
}

// readManifest wants the digest that was asked for, and by a tag the one that the answer
// says: clients believe what came by a tag. That of schema 1 is not of its bytes.
func (c *Checker) readManifest(resp *http.Response, pull oci.Pull, data []byte, digest string) (judge.Manifest, error) {
	m, err := c.judged.read(resp.Header, data, digest)
	said, known := pull.DigestOf(resp)
	if err == nil && known && said != digest && m.Kind != judge.Legacy && judge.DigestLike(said, data) != said {
		return m, judge.ErrDigest
	}
	return m, err
}

// getInstead repeats a HEAD as a GET. The answer is nil, and says why, if it has no
// body to judge: then its status and header stand for those of the HEAD, which are wrong.
func getInstead(resp *http.Response, asked Asked) (*http.Response, judge.Outcome, string) {
	get := asked.Sent.Clone(asked.Sent.Context())
	get.Method = http.MethodGet
	got, err := asked.Again.RoundTrip(get)
	if err != nil {
		if wait := judge.WaitOf(err, time.Now()); wait > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
		}
		outcome, reason := judge.OfError(err)
		return nil, outcome, reason
	}
	outcome, reason := outcomeOf(got, asked.Pull, get)
	if outcome != judge.Relayed || got.StatusCode != http.StatusOK {
		regauth.Discard(got)
		resp.StatusCode, resp.Status, resp.Header = got.StatusCode, got.Status, got.Header
		return nil, outcome, reason
	}
	return got, outcome, ""
}

// joined is a body of which a part was read already.
type joined struct {
	io.Reader
	io.Closer
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
