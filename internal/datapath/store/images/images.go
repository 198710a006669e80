// Package images is what the cluster runs, as a store knows it: images by the lines of a file, and
// all that they name. None of it is evicted, and what is missing is fetched, one after the other,
// so that a node that comes when the registry is away finds it.
//
// What an image names is read from manifests that are here: a pin needs no registry, and grows
// with each manifest that comes. Of several stores all have the manifests, and each one the blobs
// that it is the owner of: so a registry gives each once. What is fetched comes through the data
// path of the clients, as one client more that asks for one thing at a time.
//
// Start at Parse, then (*Images).Look, which pins, and (*Images).pass, which fetches.
package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

const (
	// mostImages bounds a file: as much as 5,000 nodes run.
	mostImages = 20_000
	// mostDigests bounds what is pinned, and what is remembered of manifests, and so the memory
	// for both.
	mostDigests = 200_000
	// settle is how long it is waited for more of what came before it is pinned. A look that took
	// longer is paid for with a longer pause.
	settle, pausePerLook = 100 * time.Millisecond, 10
)

// Parse reads a file: on each line an image below a path of a host, the fixed address, `name@digest`
// or `name:tag`. The name may be empty: most images of the platform have none.
func Parse(file, host, path string) (all []oci.Pull, err error) {
	n, seen := 0, map[oci.Pull]bool{}
	for line := range strings.Lines(file) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		image, err := parse(line, host, path)
		if err != nil {
			return nil, fmt.Errorf("line %d is no image, neither name@digest nor name:tag: %w", n, err)
		}
		if seen[image] {
			continue
		}
		if len(all) == mostImages {
			return nil, fmt.Errorf("line %d: more than %d images", n, mostImages)
		}
		all, seen[image] = append(all, image), true
	}
	return all, nil
}

func parse(line, host, path string) (oci.Pull, error) {
	name, reference, byDigest := strings.Cut(line, "@")
	name, tag, tagged := strings.Cut(name, ":")
	if !byDigest {
		reference = tag
	}
	if oci.IsDigest(line) {
		return oci.Pull{}, errors.New("a digest without a name has @ before it")
	}
	path = strings.TrimSuffix(path+"/"+name, "/")
	pull, err := oci.Parse(&http.Request{Host: host, URL: &url.URL{Path: oci.Root + "/" + path + "/manifests/" + reference}})
	if err == nil && (pull.ByDigest() != byDigest || !byDigest && !tagged) {
		err = errors.New("malformed digest")
	}
	return pull, err //nolint:wrapcheck // it is one sentence already
}

// Disk is what a store has.
type Disk interface {
	// Has reports whether a blob or a manifest is on the disk.
	Has(digest string) bool
	// Manifest is the content of one that is here, by its digest; nil if it is not, or is no image
	// and no index.
	Manifest(digest string) []byte
	// Pin replaces what is never evicted.
	Pin(digests []string)
	// Low is until when a registry has few more answers to give.
	Low() time.Time
}

// Config is what Images go by.
type Config struct {
	// Disk is nil as long as there is none.
	Disk func() Disk
	// Pull asks the data path as a client of its own. Where known is set nobody else is asked what
	// a tag means.
	Pull func(ctx context.Context, method string, pull oci.Pull, known bool) Answer
	// Owns reports whether it is this one of several stores that fetches a blob.
	Owns func(digest string) bool
	// Again is after what time an image that could not be fetched is tried again, at first.
	Again time.Duration
	Log   *slog.Logger
}

// Images are those of the file. All methods may be called at once.
type Images struct {
	cfg            Config
	came, replaced chan struct{} // something to look at, or to fetch; never more than one of each

	mu    sync.Mutex
	all   []*image
	over  bool              // they name more than is pinned
	known map[string]*named // by digest of a manifest
	names int               // of all that are known

	tries tries // of all of them; as what each image has of them it is the passes' alone
}

// image is one of the file.
type image struct {
	pull    oci.Pull // of its manifest
	meaning string   // of a tag, here: a digest; "" if there is none. The lock of the Images is its
	here    bool     // all that is to be; as meaning
	tries   tries
	asked   time.Time // what its tag means, at last
}

// Count is how many there are, and of how many of them all is here that is to be.
type Count struct {
	Images, Here int
	// Over says that they name more than is pinned.
	Over bool
}

// New has none.
func New(cfg Config) *Images {
	return &Images{cfg: cfg, came: make(chan struct{}, 1), replaced: make(chan struct{}, 1), known: map[string]*named{}}
}

// Replace has others from now on.
func (im *Images) Replace(all []oci.Pull) {
	im.mu.Lock()
	before := make(map[oci.Pull]*image, len(im.all))
	for _, i := range im.all {
		before[i.pull] = i
	}
	im.all = make([]*image, 0, len(all))
	for _, pull := range all {
		i := before[pull]
		if i == nil {
			i = &image{pull: pull}
		}
		im.all = append(im.all, i)
	}
	im.mu.Unlock()
	nudge(im.came)
	nudge(im.replaced)
}

// Stored is told of all that is on the disk from now on: it may be a manifest. It does not wait.
func (im *Images) Stored() { nudge(im.came) }

// nudge need be no more than one: whoever looks sees all.
func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Count is as of the last look: one that was not looked at yet is not here.
func (im *Images) Count() Count {
	im.mu.Lock()
	defer im.mu.Unlock()
	c := Count{Images: len(im.all), Over: im.over}
	for _, i := range im.all {
		if i.here {
			c.Here++
		}
	}
	return c
}

// Run looks and fetches until the context ends.
func (im *Images) Run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { im.looks(ctx) })
	all.Go(func() { im.passes(ctx) })
	all.Wait()
}

func (im *Images) looks(ctx context.Context) {
	for {
		begun := time.Now()
		next := im.Look(ctx)
		pause(ctx, nil, max(settle, pausePerLook*time.Since(begun)))
		if pause(ctx, im.came, next); ctx.Err() != nil {
			return
		}
	}
}

// pause is over early with something to do, or with the context.
func pause(ctx context.Context, early <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-early:
	case <-timer.C:
	case <-ctx.Done():
	}
}
