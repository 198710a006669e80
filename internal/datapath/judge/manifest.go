package judge

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// Limit is the size that registries and clients agree on as that of the largest
// manifest, in bytes. Nothing larger is one.
const Limit = 4 << 20

// mostMediaType is how long a media type may be, in bytes: it goes into a header, and RFC
// 6838 allows two names of 127.
const mostMediaType = 255

// The media types of images and their indexes, which are all that containerd runs.
const (
	OCIIndex       = "application/vnd.oci.image.index.v1+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	OCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

// Accept are the media types to ask for.
func Accept() []string { return []string{OCIIndex, DockerList, OCIManifest, DockerManifest} }

// Kind is what sort of manifest one is.
type Kind int

// The kinds. Only the first two can be run.
const (
	Image Kind = iota
	Index
	Legacy   // schema 1: containerd 2 does not run it, so that no image check counts it
	Artifact // of another sort, such as a deprecated artifact manifest
)

// Manifest is one that was read.
type Manifest struct {
	Kind      Kind
	MediaType string
	Children  []Child // of an Index
}

// Child is one entry of an index.
type Child struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Platform  struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	} `json:"platform"`
}

// Errors of answers that claim to be good. Their texts follow the registry's name.
var (
	ErrDigest  error = &Error{Outcome: WrongDigest, text: "answered with a manifest of other bytes than its digest says"}
	errWebPage error = &Error{Outcome: Nonsense, text: "answered with a web page"}
	errEmpty   error = &Error{Outcome: Nonsense, text: "answered with nothing"}
)

// Read judges the whole body of a 200. What has the wanted digest is what was asked
// for; an empty digest is that of a tag. The error is an Error.
func Read(header http.Header, data []byte, digest string) (Manifest, error) {
	text := bytes.TrimSpace(data)
	wrong := digest != "" && DigestLike(digest, data) != digest
	switch {
	case len(text) == 0:
		return Manifest{}, errEmpty
	case WebPage(header) && (digest == "" || wrong), bytes.HasPrefix(text, []byte("<")):
		return Manifest{}, errWebPage
	case wrong:
		if what := errorIn(data); what != "" {
			return Manifest{}, Errorf(Nonsense, "answered with an error instead of a manifest: %s", what)
		}
		return Manifest{}, ErrDigest
	}
	m, err := parse(data)
	if err != nil {
		return Manifest{}, err
	}
	return m, m.agrees(mediaType(header))
}

// document is what of any manifest tells which kind it is.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	Config        *Child          `json:"config"`
	Layers        list            `json:"layers"`
	Manifests     list            `json:"manifests"`
	FSLayers      json.RawMessage `json:"fsLayers"`
	Blobs         json.RawMessage `json:"blobs"`
}

// list is there also as null, which some tools write for none: containerd goes by the
// key.
type list struct {
	there bool
	items []Child
}

// UnmarshalJSON is called for what is there.
func (l *list) UnmarshalJSON(data []byte) error {
	l.there = true
	return json.Unmarshal(data, &l.items)
}

func parse(data []byte) (Manifest, error) {
	var doc document
	if err := json.Unmarshal(data, &doc); err != nil {
		return Manifest{}, Errorf(Nonsense, "answered with what is no manifest: it cannot be read as one")
	}
	switch {
	case len(doc.MediaType) > mostMediaType:
		return Manifest{}, Errorf(Nonsense, "answered with a manifest whose media type has %d bytes", len(doc.MediaType))
	case doc.SchemaVersion == 2 && (doc.isImage() || doc.Manifests.there):
		return doc.current()
	case doc.SchemaVersion == 1 && doc.FSLayers != nil:
		return Manifest{Kind: Legacy, MediaType: "application/vnd.docker.distribution.manifest.v1+prettyjws"}, nil
	case doc.MediaType != "" && doc.Blobs != nil:
		return Manifest{Kind: Artifact, MediaType: doc.MediaType}, nil
	}
	if what := errorIn(data); what != "" {
		return Manifest{}, Errorf(Nonsense, "answered with an error instead of a manifest: %s", what)
	}
	return Manifest{}, Errorf(Nonsense, "answered with what is no manifest")
}

func (d document) isImage() bool { return d.Config != nil && d.Layers.there }

// current is an image or an index of today. containerd refuses what is both: two
// clients could run two different things.
func (d document) current() (Manifest, error) {
	switch {
	case !d.Manifests.there && digestForm.MatchString(d.Config.Digest):
		return Manifest{Kind: Image, MediaType: known(d.MediaType, OCIManifest)}, nil
	case d.Manifests.there && d.Config == nil && !d.Layers.there:
		return Manifest{Kind: Index, MediaType: known(d.MediaType, OCIIndex), Children: d.Manifests.items}, nil
	}
	return Manifest{}, Errorf(Nonsense, "answered with a manifest that is neither an image nor an index")
}

// known is the media type that a manifest says of itself. OCI allows none.
func known(said, otherwise string) string {
	if said == "" {
		return otherwise
	}
	return said
}

// agrees is an error if the header names another kind of manifest than the body is:
// containerd goes by the header. Registries that name no kind at all are common.
func (m Manifest) agrees(said string) error {
	kind, named := kindOf(said)
	if named && kind != m.Kind {
		return Errorf(Nonsense, "answered with another kind of manifest than its Content-Type %s", said)
	}
	return nil
}

// kindOf is the kind that a media type names, if it names one.
func kindOf(mediaType string) (Kind, bool) {
	switch mediaType {
	case OCIManifest, DockerManifest:
		return Image, true
	case OCIIndex, DockerList:
		return Index, true
	}
	return 0, false
}

// Convincing reports whether the header alone says what a manifest is: by a media
// type of ours, and by a digest, which is the one that was asked for unless that was a
// tag. If not, the body decides: also where its length would be that of a form of it.
func Convincing(resp *http.Response, digest string) bool {
	_, named := kindOf(mediaType(resp.Header))
	said := resp.Header.Get("Docker-Content-Digest")
	return resp.StatusCode == http.StatusOK && named && !encoded(resp) && digestForm.MatchString(said) && (digest == "" || said == digest)
}

var digestForm = regexp.MustCompile(`^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// DigestLike is the digest of data by the algorithm of another digest.
func DigestLike(digest string, data []byte) string {
	if strings.HasPrefix(digest, "sha512:") {
		sum := sha512.Sum512(data)
		return "sha512:" + hex.EncodeToString(sum[:])
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// errorIn is the first error that a body names, quoted and of bounded length; empty
// when there is none. Besides the registries' own form some proxies have `error`.
func errorIn(data []byte) string {
	var body struct {
		Errors []struct{ Code, Message string }
		Error  json.RawMessage
	}
	if json.Unmarshal(data, &body) != nil {
		return ""
	}
	switch text := strings.Trim(string(body.Error), `"`); {
	case len(body.Errors) > 0:
		return fmt.Sprintf("%.200q", strings.TrimSuffix(body.Errors[0].Code+": "+body.Errors[0].Message, ": "))
	case text != "" && text != "null":
		return fmt.Sprintf("%.200q", text)
	}
	return ""
}
