package images

import (
	"encoding/json"
	"runtime"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

const (
	// mostNames is how many a manifest may name. One with more names nothing: no image has as many
	// layers, since nothing could mount them.
	mostNames = 1000
	// mostOfImage bounds how many names of one image are looked at, of all its platforms.
	mostOfImage = 5000
	// deepest is how many indexes may be in each other.
	deepest = 4
)

// named is what a manifest names. It does not change.
type named struct {
	manifests []child  // of an index
	blobs     []string // of an image
	strange   bool     // it names what nobody can have
}

// size is what it takes to remember, in names.
func (n *named) size() int { return 1 + len(n.manifests) + len(n.blobs) }

type child struct {
	digest string
	ours   bool // machines like this one may run it
}

// descriptor is what a manifest says of what it names.
type descriptor struct {
	Digest   string
	Platform struct{ Architecture, OS string }
}

// namesOf reads a manifest that was judged.
func namesOf(manifest []byte) *named {
	var doc struct {
		Config            *descriptor
		Layers, Manifests []descriptor
	}
	if err := json.Unmarshal(manifest, &doc); err != nil || len(doc.Layers)+len(doc.Manifests) > mostNames {
		return &named{strange: true}
	}
	n := &named{}
	for _, c := range doc.Manifests {
		n.strange = n.strange || !oci.IsDigest(c.Digest)
		n.manifests = append(n.manifests, child{c.Digest, isOurs(c)})
	}
	if doc.Config != nil {
		doc.Layers = append(doc.Layers, *doc.Config)
	}
	for _, l := range doc.Layers {
		n.strange = n.strange || !oci.IsDigest(l.Digest)
		n.blobs = append(n.blobs, l.Digest)
	}
	if n.strange {
		return &named{strange: true}
	}
	return n
}

// isOurs: nodes are as this machine. What says no platform may be for any.
func isOurs(c descriptor) bool {
	p := c.Platform
	return p.OS == "linux" && p.Architecture == runtime.GOARCH || p.OS == "" && p.Architecture == ""
}

// namesIn is what a manifest names, if it is here. Each is read once, as long as they are not too many.
func (im *Images) namesIn(disk Disk, digest string) *named {
	im.mu.Lock()
	n := im.known[digest]
	im.mu.Unlock()
	if n != nil {
		return n
	}
	data := disk.Manifest(digest)
	if data == nil {
		return nil
	}
	n = namesOf(data)
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.known[digest] == nil && im.names+n.size() <= mostDigests {
		im.known[digest] = n
		im.names += n.size()
	}
	return n
}

// walk goes through what images name.
type walk struct {
	*Images
	disk    Disk
	pinned  map[string]bool // of all
	over    bool            // there is more than that
	left    int             // how many more names of this image are looked at
	seen    map[string]bool // manifests of this image
	missing []missing       // what is to be here and is not, of this image
	strange bool            // it can never be whole
}

type missing struct {
	kind   oci.Kind
	digest string
}

// image is one from its manifest on. What is missing of it is left in missing.
func (w *walk) image(manifest string) (whole bool) {
	w.left, w.seen, w.missing, w.strange = mostOfImage, map[string]bool{}, nil, false
	if w.more() {
		w.manifest(manifest, 0)
	}
	return len(w.missing) == 0 && !w.strange
}

func (w *walk) manifest(digest string, depth int) {
	if w.seen[digest] {
		return
	}
	w.seen[digest] = true
	if depth > deepest || !w.pin(digest) {
		w.strange = true
		return
	}
	n := w.namesIn(w.disk, digest)
	if n == nil || !w.disk.Has(digest) {
		w.missing = append(w.missing, missing{oci.KindManifests, digest})
	}
	if n == nil {
		return
	}
	w.strange = w.strange || n.strange
	for _, c := range n.manifests {
		if !w.more() {
			return
		}
		if c.ours || w.disk.Has(c.digest) { // of another platform: a client asked for it
			w.manifest(c.digest, depth+1)
		}
	}
	w.blobs(n.blobs)
}

func (w *walk) blobs(all []string) {
	for _, blob := range all {
		if !w.more() || !w.pin(blob) {
			w.strange = true
			return
		}
		if w.cfg.Owns(blob) && !w.disk.Has(blob) {
			w.missing = append(w.missing, missing{oci.KindBlobs, blob})
		}
	}
}

// more reports whether one more name of the image is looked at.
func (w *walk) more() bool {
	w.left--
	w.strange = w.strange || w.left < 0
	return w.left >= 0
}

// pin is false when it is too much.
func (w *walk) pin(digest string) bool {
	if !w.pinned[digest] && len(w.pinned) == mostDigests {
		w.over = true
		return false
	}
	w.pinned[digest] = true
	return true
}
