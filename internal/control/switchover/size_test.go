package switchover

import (
	"fmt"
	"slices"
	"testing"

	"github.com/d8-registry/registry/internal/upstream"
)

// TestGrown: what a wish would add is known before it is followed, with two more
// accounts of a registry that is new. What adds nothing is never judged.
func TestGrown(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	b, other := c.s.Active.Upstream, registryB()
	other.Host = "c.example"
	corrected := other
	corrected.Credentials.Password = "right"
	if _, more := c.p.Grown(c.s, c.seen); more {
		t.Error("the present target is judged")
	}
	c.setSpec(Direct, other)
	grown, more := c.p.Grown(c.s, c.seen)
	if ups := grown.Desired.Layout.Upstreams(); !more || len(ups) != 4 || !slices.Contains(ups, b) || !slices.Contains(ups, other) || grown.Target.Upstream != other {
		t.Errorf("a new registry: %v, %v", more, ups)
	}
	if len(grown.Desired.PullSecrets) != 4 || len(grown.Desired.Bootstrap) != 4 {
		t.Errorf("pull secrets of %d, ours of %d registries", len(grown.Desired.PullSecrets), len(grown.Desired.Bootstrap))
	}
	c.publishes(other)
	c.setSpec(Direct, corrected)
	grown, more = c.p.Grown(c.s, c.seen)
	if ups := grown.Desired.Layout.Upstreams(); !more || len(ups) != 3 || !slices.Contains(ups, corrected) {
		t.Errorf("a correction: %v, %v", more, ups)
	}
	for _, back := range []upstream.Upstream{b, other} {
		c.setSpec(Direct, back)
		if _, more := c.p.Grown(c.s, c.seen); more {
			t.Errorf("the way back to %s is judged", back)
		}
	}
	c.setSpec("Later", corrected)
	if _, more := c.p.Grown(c.s, c.seen); more {
		t.Error("a mode that does not exist is judged")
	}
}

// publishes lets a switch to a registry go on until its union is published.
func (c *scene) publishes(u upstream.Upstream) {
	c.t.Helper()
	c.setSpec(Direct, u)
	for range 10 {
		c.checked()
		if c.advance(); slices.Contains(c.s.Desired.Layout.Upstreams(), u) {
			return
		}
	}
	c.t.Fatalf("no union with %s:\n%s", u, c.conditions())
}

// TestGrownIsWhatComes: the state of a switch never has more than was foreseen.
func TestGrownIsWhatComes(t *testing.T) {
	t.Parallel()
	c := direct(t, 1)
	other := registryB()
	other.Host = "c.example"
	c.setSpec(Direct, other)
	grown, _ := c.p.Grown(c.s, c.seen)
	for i := range mostCorrections + 1 {
		u := other
		if i > 0 {
			u.Credentials.Password = fmt.Sprint("corrected ", i)
		}
		c.publishes(u)
	}
	now, then := c.s.Desired, grown.Desired
	if len(now.Layout.Upstreams()) != 4 || len(now.Layout.Upstreams()) > len(then.Layout.Upstreams()) || len(now.Layout.Routes) > len(then.Layout.Routes) ||
		len(now.PullSecrets) > len(then.PullSecrets) || len(now.Bootstrap) > len(then.Bootstrap) || len(c.s.Bases) > len(grown.Bases) {
		t.Errorf("foreseen: %d registries, %d names, %d and %d pull secrets, %d bases\nthere are %d registries, %d names, %d and %d, %d",
			len(then.Layout.Upstreams()), len(then.Layout.Routes), len(then.PullSecrets), len(then.Bootstrap), len(grown.Bases),
			len(now.Layout.Upstreams()), len(now.Layout.Routes), len(now.PullSecrets), len(now.Bootstrap), len(c.s.Bases))
	}
}

// TestLikelyCredentials are as long as those that they stand for.
func TestLikelyCredentials(t *testing.T) {
	t.Parallel()
	long := upstream.Credentials{Username: "u", Password: string(make([]byte, 3000))}
	first, second := likely(long, 0), likely(long, 1)
	if first == second || len(first.Password) != 3000 || len(likely(upstream.Credentials{}, 0).Password) < 64 {
		t.Error("they are not")
	}
	u := registryB()
	u.Credentials = first
	if err := u.Validate(); err != nil {
		t.Errorf("no layout holds them: %v", err)
	}
}
