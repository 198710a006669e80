package precheck

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	// compareTimeout is for our own image at the old registry, which may be dead: a
	// check of the new one that has passed waits for it.
	compareTimeout = 10 * time.Second
	// comparePause is between two tags. Nobody waits for them.
	comparePause = 50 * time.Millisecond
	// mostSilent is how many tags in a row the old registry may leave without an answer.
	mostSilent = 3
	// keptTags is how many tags a comparison names at most.
	keptTags = 5
)

// ownImage is our own image at the old and the new registry.
type ownImage struct {
	differs string // how, or why the new registry does not say; empty when it does not, as far as is known
	unknown string // why that is not known
}

// compareOwn begins to compare, and returns what waits for the result. Whoever serves
// our image is root on every node: another one than the one that runs is not for a
// registry to choose. The old registry gates nothing: it may be dead, which often is
// why there is a new one. The new one has to answer: silence would be a way to choose.
func (c Checker) compareOwn(ctx context.Context, req Request) (result func() ownImage) {
	if req.Compare.IsZero() || req.Own == "" || strings.Contains(req.Own, "@") {
		return func() ownImage { return ownImage{} }
	}
	req.Upstream, req.Compare = c.with(req.Upstream), c.with(req.Compare)
	limited, cancel := context.WithTimeout(ctx, cmp.Or(c.CompareTimeout, compareTimeout))
	var found, wanted string
	var errOld, errNew error
	var both sync.WaitGroup
	both.Go(func() { found, errOld = c.digest(limited, req.Compare, req.Own, true) })
	both.Go(func() { wanted, errNew = c.digest(ctx, req.Upstream, req.Own, true) })
	return func() ownImage {
		both.Wait()
		cancel()
		switch {
		case errOld != nil:
			return ownImage{unknown: fmt.Sprintf("The module's own image was not compared with the one of %s: %s", req.Compare.Base(), safe(errOld, req.Compare))}
		case errNew != nil:
			return ownImage{differs: "The module's own image is not known to be the one that runs: " + safe(errNew, req.Upstream)}
		case found != wanted:
			return ownImage{differs: fmt.Sprintf("The module's own image %s is %s at %s and %s here. Copy it as it is, or name it by digest.",
				req.Own, found, req.Compare.Base(), wanted)}
		}
		return ownImage{}
	}
}

func (c Checker) digest(ctx context.Context, u upstream.Upstream, image string, read bool) (string, error) {
	reg, err := c.Open(c.with(u))
	if err != nil {
		return "", err
	}
	if idle, ok := reg.Transport.(interface{ CloseIdleConnections() }); ok {
		defer idle.CloseIdleConnections()
	}
	digest := ""
	err = c.within(ctx, func(ctx context.Context) error {
		digest, err = reg.Digest(ctx, image, read)
		return err
	})
	return digest, err
}

// compareTags looks, one by one, for tags that mean another image at the old registry.
// It ends early if that does not answer.
func (c Checker) compareTags(ctx context.Context, req Request) switchover.Comparison {
	all := switchover.Comparison{Fingerprint: req.Fingerprint}
	if req.Compare.IsZero() {
		return all
	}
	silent := 0
	for _, image := range distinct(req.Images) {
		if strings.Contains(image, "@") || image == req.Own {
			continue
		}
		found, err := c.digest(ctx, req.Compare, image, false)
		if err != nil {
			if refusesAll(err) {
				silent++
			}
			if silent == mostSilent {
				return all
			}
			continue
		}
		silent = 0
		wanted, err := c.digest(ctx, req.Upstream, image, false)
		if err == nil && wanted != found {
			if all.Differing++; len(all.First) < keptTags {
				all.First = append(all.First, foreign.Line(strings.TrimPrefix(image, ":"), foreign.Word))
			}
		}
		select {
		case <-ctx.Done():
			return all
		case <-time.After(comparePause):
		}
	}
	return all
}

// comparisons runs one comparison of tags at a time, beside the checks. It goes on when
// the check that it follows is not wanted any more: the step has passed by then.
type comparisons struct {
	running sync.WaitGroup

	mu     sync.Mutex
	of     Request
	cancel context.CancelFunc
	result switchover.Comparison
}

// begin compares the tags of a request that has passed; done is called at the end.
func (c *comparisons) begin(ctx context.Context, checker Checker, req Request, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		if c.of.same(req) {
			return
		}
		c.cancel()
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.of, c.result = req, switchover.Comparison{}
	c.running.Go(func() {
		result := checker.compareTags(ctx, req)
		c.mu.Lock()
		current := ctx.Err() == nil && c.of.same(req)
		if current {
			c.result = result
		}
		c.mu.Unlock()
		if current {
			done()
		}
	})
}

// latest is the last comparison that has ended; zero when there is none.
func (c *comparisons) latest() switchover.Comparison {
	c.mu.Lock()
	defer c.mu.Unlock()
	result := c.result
	result.First = slices.Clone(result.First)
	return result
}
