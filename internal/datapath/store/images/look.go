package images

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

const (
	// In times of Config.Again: how often it is looked in any case, how often a registry is asked
	// what a tag means, and how long an image is left alone at most.
	perLook, perTag, perImage = 12, 60, 120
)

// Look pins what images name by what is here, and counts them. next is when to look again if
// nothing comes.
func (im *Images) Look(ctx context.Context) (next time.Duration) {
	disk := im.cfg.Disk()
	if disk == nil {
		return im.cfg.Again
	}
	next = perLook * im.cfg.Again
	im.mu.Lock()
	all := im.all
	im.mu.Unlock()
	w := &walk{Images: im, disk: disk, pinned: map[string]bool{}}
	here := make([]bool, len(all))
	for n, i := range all {
		digest, sure := im.means(ctx, i)
		if !sure {
			next = im.cfg.Again
		}
		here[n] = digest != "" && w.image(digest)
	}
	if ctx.Err() != nil {
		return next // it is not known what tags mean
	}
	disk.Pin(slices.Collect(maps.Keys(w.pinned)))
	im.mu.Lock()
	defer im.mu.Unlock()
	for n, i := range all {
		i.here = here[n]
	}
	im.over = w.over
	maps.DeleteFunc(im.known, func(digest string, n *named) bool {
		if !w.pinned[digest] {
			im.names -= n.size()
		}
		return !w.pinned[digest]
	})
	return next
}

// means is the digest of an image, by what its tag means here. Where that could not be found out it
// is what it meant, and sure is false.
func (im *Images) means(ctx context.Context, i *image) (digest string, sure bool) {
	if i.pull.ByDigest() {
		return i.pull.Reference, true
	}
	a := im.cfg.Pull(ctx, http.MethodHead, i.pull, true)
	im.mu.Lock()
	defer im.mu.Unlock()
	switch {
	case a.Status == http.StatusOK && oci.IsDigest(a.Digest):
		i.meaning = a.Digest
	case a.Status == http.StatusNoContent, a.Status == http.StatusNotFound:
		i.meaning = ""
	default:
		return i.meaning, false
	}
	return i.meaning, true
}
