package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/d8-registry/registry/internal/datapath/oci"
)

// mostInARow is after how many images that could not be fetched, one after the other, the rest
// is left for later: it is not because of them.
const mostInARow = 3

// mostLanding is the longest pause between two looks whether a blob is on the disk.
const mostLanding = 2 * time.Second

// errStrange is of an image that can never be whole.
var errStrange = errors.New("it names more than an image has, or what is no digest")

// Answer is what came of a pull whose body was read to its end.
type Answer struct {
	Status int
	Digest string        // that the header says
	Wait   time.Duration // until it wants to be asked again; 0 if it did not say
	Why    string        // why nothing was kept, where something else than the registry is why
	Broken bool          // the body did not come to its end
}

func (a Answer) good() bool { return a.Status == http.StatusOK && !a.Broken && a.Why == "" }

// Error is for an answer that is not good.
func (a Answer) Error() string {
	switch {
	case a.Why != "":
		return "it is not kept: " + a.Why
	case a.Broken:
		return "it broke off"
	}
	return fmt.Sprintf("the answer was %d", a.Status)
}

// tries are those that failed, one after the other.
type tries struct {
	failed int
	until  time.Time // left alone
}

// fails leaves it alone for longer than the last time, and as long as it was asked to.
func (t *tries) fails(again, wait time.Duration) {
	backoff := min(again<<min(t.failed, 16), perImage*again)
	t.failed++
	t.until = time.Now().Add(max(backoff, min(wait, perImage*again)))
}

func (im *Images) passes(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, im.replaced, im.pass(ctx))
	}
}

// pass fetches what is missing, one image after the other. next is when to try again.
func (im *Images) pass(ctx context.Context) (next time.Duration) {
	disk := im.cfg.Disk()
	if disk == nil {
		return im.cfg.Again
	}
	im.mu.Lock()
	all := im.all
	im.mu.Unlock()
	next, inARow := perLook*im.cfg.Again, 0
	for _, i := range all {
		if wait := time.Until(later(im.tries.until, disk.Low())); wait > 0 {
			return wait
		}
		if wait := time.Until(i.tries.until); wait > 0 {
			next = min(next, wait)
			continue
		}
		err := im.fetch(ctx, disk, i)
		if ctx.Err() != nil {
			return next
		}
		if err == nil {
			i.tries, im.tries, inARow = tries{}, tries{}, 0
			continue
		}
		im.cfg.Log.Info("an image in use is not fetched yet", "repository", i.pull.Repository, "reference", i.pull.Reference, "err", err)
		var a Answer
		_ = errors.As(err, &a) // else it is the zero one
		if a.Status == http.StatusTooManyRequests && a.Why == "" {
			im.tries.fails(im.cfg.Again, a.Wait)
			continue // to the wait
		}
		i.tries.fails(im.cfg.Again, 0)
		next = min(next, time.Until(i.tries.until))
		if a.Status == http.StatusNotFound || errors.Is(err, errStrange) {
			continue // it is because of the image
		}
		if inARow++; inARow == mostInARow {
			im.tries.fails(im.cfg.Again, 0)
			inARow = 0
		}
	}
	return max(next, 0)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fetch has what is missing of an image come, until no manifest that came names more.
func (im *Images) fetch(ctx context.Context, disk Disk, i *image) error {
	digest, err := im.ask(ctx, i)
	if err != nil {
		return err
	}
	tried := map[string]bool{}
	for {
		w := &walk{Images: im, disk: disk, pinned: map[string]bool{}}
		w.image(digest)
		if w.left < 0 {
			return errStrange
		}
		more := false
		for _, m := range w.missing {
			if tried[m.digest] {
				continue
			}
			tried[m.digest], more = true, true
			pull := i.pull
			pull.Kind, pull.Reference = m.kind, m.digest
			if a := im.cfg.Pull(ctx, http.MethodGet, pull, false); !a.good() {
				return fmt.Errorf("fetch %s: %w", m.digest, a)
			}
			if m.kind == oci.KindBlobs && !im.lands(ctx, disk, m.digest) || m.kind == oci.KindManifests && im.namesIn(disk, m.digest) == nil {
				return fmt.Errorf("fetch %s: it came, and is not here", m.digest)
			}
			nudge(im.came)
		}
		switch {
		case more:
		case w.strange:
			return errStrange
		default:
			return nil
		}
	}
}

// lands waits until a blob that came is here: who reads it has its last byte before it is on the
// disk for good, and that takes what the disk takes.
func (im *Images) lands(ctx context.Context, disk Disk, digest string) bool {
	for wait := time.Millisecond; !disk.Has(digest); wait *= 2 {
		if wait > min(im.cfg.Again, mostLanding) || ctx.Err() != nil {
			return false
		}
		pause(ctx, nil, wait)
	}
	return true
}

// ask is the digest of an image. What a tag means is asked for from time to time, whoever pulls.
func (im *Images) ask(ctx context.Context, i *image) (digest string, err error) {
	if i.pull.ByDigest() {
		return i.pull.Reference, nil
	}
	im.mu.Lock()
	digest = i.meaning
	im.mu.Unlock()
	if digest != "" && time.Since(i.asked) < perTag*im.cfg.Again {
		return digest, nil
	}
	a := im.cfg.Pull(ctx, http.MethodHead, i.pull, false)
	if !a.good() || !oci.IsDigest(a.Digest) {
		return "", fmt.Errorf("ask what it means: %w", a)
	}
	i.asked = time.Now()
	if im.mu.Lock(); i.meaning != a.Digest {
		i.meaning = a.Digest
		nudge(im.came)
	}
	im.mu.Unlock()
	return a.Digest, nil
}
