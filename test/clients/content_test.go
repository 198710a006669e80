package clients

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// item is a manifest or a blob.
type item struct {
	digest   string
	tag      string // of a manifest that clients ask for by tag
	size     int64
	manifest bool
}

// is reports whether a request for ref is for the item.
func (i item) is(ref string) bool { return ref == i.digest || i.tag != "" && ref == i.tag }

// content is one thing to pull, as NAME:v1.
type content struct {
	name string
	what remote.Taggable
	all  []item // all of it; the first is what the tag means
	node []item // what a node pulls of it
}

const tag = "v1"

// contents are pushed once. The big one's layer has so many bytes.
func contents(t *testing.T, rng *rand.Rand, big int64) []content {
	t.Helper()
	return []content{
		multi(t),
		from(t, "artifact", artifact(t, rng, "application/vnd.example.sbom.v1+json", 200_000)),
		from(t, "big", artifact(t, rng, "application/vnd.oci.image.layer.v1.tar", big)),
	}
}

// multi is an image for two architectures.
func multi(t *testing.T) content {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	images := map[string]content{}
	for _, architecture := range []string{"amd64", "arm64"} {
		image := must(random.Image(700_000, 3))
		config := must(image.ConfigFile()).DeepCopy()
		config.OS, config.Architecture = "linux", architecture
		image = mutate.MediaType(must(mutate.ConfigFile(image, config)), types.OCIManifestSchema1)
		image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
		images[architecture] = from(t, "", image)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: architecture}},
		})
	}
	index = spelled{index}
	top := item{digest: must(index.Digest()).String(), tag: tag, size: must(index.Size()), manifest: true}
	c := content{name: "multi", what: index, all: []item{top}}
	for _, image := range images {
		own := image.all
		own[0].tag = ""
		c.all = append(c.all, own...)
	}
	c.node = append([]item{top}, images[runtime.GOARCH].all...)
	return c
}

// spelled is an index as skopeo would write it: it copies no other without a change.
type spelled struct{ madeIndex }

// madeIndex has a name that its own methods do not have.
type madeIndex = v1.ImageIndex

func (s spelled) RawManifest() ([]byte, error) {
	type platform struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
	}
	type child struct {
		MediaType types.MediaType `json:"mediaType"`
		Digest    v1.Hash         `json:"digest"`
		Size      int64           `json:"size"`
		Platform  platform        `json:"platform"`
	}
	index, err := s.IndexManifest()
	if err != nil {
		return nil, err
	}
	children := []child{}
	for _, m := range index.Manifests {
		children = append(children, child{m.MediaType, m.Digest, m.Size, platform{m.Platform.Architecture, m.Platform.OS}})
	}
	return json.Marshal(struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     []child         `json:"manifests"`
	}{2, types.OCIImageIndex, children})
}

func (s spelled) Digest() (v1.Hash, error) { return partial.Digest(s) }
func (s spelled) Size() (int64, error)     { return partial.Size(s) }

// from lists what belongs to an image.
func from(t *testing.T, name string, image v1.Image) content {
	t.Helper()
	manifest := must(image.Manifest())
	all := []item{{digest: must(image.Digest()).String(), tag: tag, size: must(image.Size()), manifest: true}}
	for _, d := range append(manifest.Layers, manifest.Config) {
		all = append(all, item{digest: d.Digest.String(), size: d.Size})
	}
	return content{name: name, what: image, all: all, node: all}
}

// emptyConfig is that of artifacts, as the specification of images has it.
const emptyConfig = "{}"

// artifact has an artifactType, and one blob.
func artifact(t *testing.T, rng *rand.Rand, kind types.MediaType, size int64) v1.Image {
	t.Helper()
	l := &stream{kind: kind, size: size}
	for i := range l.seed {
		l.seed[i] = byte(rng.Uint32())
	}
	sum := sha256.New()
	body := must(l.Compressed())
	must(io.Copy(sum, body))
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	config, _, err := v1.SHA256(bytes.NewReader([]byte(emptyConfig)))
	if err != nil {
		t.Fatal(err)
	}
	raw := must(json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": "application/vnd.example.thing",
		"config": v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: config, Size: int64(len(emptyConfig))},
		"layers": []v1.Descriptor{{MediaType: kind, Digest: l.digest, Size: size}},
	}))
	return must(partial.CompressedToImage(oneBlob{raw, l}))
}

type oneBlob struct {
	raw  []byte
	blob *stream
}

func (o oneBlob) RawConfigFile() ([]byte, error)      { return []byte(emptyConfig), nil }
func (o oneBlob) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (o oneBlob) RawManifest() ([]byte, error)        { return o.raw, nil }
func (o oneBlob) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	if h == o.blob.digest {
		return o.blob, nil
	}
	return nil, fmt.Errorf("no blob %s", h)
}

// stream is a blob that is made while it is read: it may be larger than memory.
type stream struct {
	seed   [32]byte
	kind   types.MediaType
	size   int64
	digest v1.Hash
}

func (s *stream) Digest() (v1.Hash, error)            { return s.digest, nil }
func (s *stream) Size() (int64, error)                { return s.size, nil }
func (s *stream) MediaType() (types.MediaType, error) { return s.kind, nil }
func (s *stream) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(rand.NewChaCha8(s.seed), s.size)), nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // of what is in memory
	}
	return v
}
