package serve

import (
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// dead is a registry that refuses connections at once: whether a name is
// routed shows in the answer, 503 or 404.
func dead(path string) upstream.Upstream {
	return upstream.Upstream{Host: "127.0.0.1:1", Path: path, Scheme: upstream.HTTP}
}

func old() layout.Name { return layout.Name{Host: "a.example.com", Path: "team"} }

// withOld is a layout that also has the old name.
func withOld(generation int64) layout.Layout {
	l := published(generation, dead("new"))
	l.Routes = layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(dead("new")), old()}, []upstream.Upstream{dead("new")})
	return l
}

func retiring(t *testing.T, dir string) (*keeper, *time.Time) {
	t.Helper()
	now := time.Now()
	k := keeperIn(t, dir)
	k.retired.now = func() time.Time { return now }
	for _, l := range []layout.Layout{withOld(1), published(2, dead("new"))} {
		if err := k.offer(encode(t, l), true); err != nil {
			t.Fatal(err)
		}
	}
	return k, &now
}

// TestRemovedNameGoesLast: first hosts.toml (node acknowledges), then pulls
// under way (the quiet time), then the route.
func TestRemovedNameGoesLast(t *testing.T) {
	t.Parallel()
	k, now := retiring(t, t.TempDir())
	still := func(when string, want bool) {
		t.Helper()
		k.sweep()
		if got := routed(k, "a.example.com", "team/app"); got != want {
			t.Errorf("%s: routed %t, want %t", when, got, want)
		}
		if !routed(k, "registry.d8-system.svc:5001", "system/deckhouse/app") {
			t.Errorf("%s: the fixed address is not routed", when)
		}
	}
	still("at once", true)
	*now = now.Add(time.Hour)
	still("while node says nothing", true)
	k.applied(1)
	*now = now.Add(time.Hour)
	still("when node has applied an older generation", true)
	k.applied(2)
	*now = now.Add(DefaultQuiet / 2)
	still("a pull under way", true) // which itself is a use
	*now = now.Add(DefaultQuiet - time.Second)
	still("not yet quiet", true)
	*now = now.Add(DefaultQuiet)
	still("quiet", false)
	*now = now.Add(time.Hour)
	still("for good", false)
}

func TestRemovedNameSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	retiring(t, dir)
	k := keeperIn(t, dir)
	if !routed(k, "a.example.com", "team/app") {
		t.Fatal("hosts.toml may still send containerd here")
	}
	now := time.Now()
	k.retired.now = func() time.Time { return now }
	k.applied(2)
	now = now.Add(DefaultQuiet)
	k.sweep()
	if routed(k, "a.example.com", "team/app") || routed(keeperIn(t, dir), "a.example.com", "team/app") {
		t.Error("it never goes")
	}
}

func TestRemovedNameComesBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, now := retiring(t, dir)
	k.applied(2)
	if err := k.offer(encode(t, withOld(3)), true); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Hour)
	k.applied(3)
	*now = now.Add(time.Hour)
	k.sweep()
	if !routed(k, "a.example.com", "team/app") || len(k.retired.names()) != 0 {
		t.Errorf("it went with the earlier removal; on its way out: %v", k.retired.names())
	}
}

// TestNextRemovalWaitsAgain: an acknowledgement is for what was gone then.
func TestNextRemovalWaitsAgain(t *testing.T) {
	t.Parallel()
	k, now := retiring(t, t.TempDir())
	k.applied(2)
	next := published(3, dead("newer"))
	if err := k.offer(encode(t, next), true); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Hour)
	k.sweep()
	if !routed(k, "127.0.0.1:1", "new/app") || !routed(k, "a.example.com", "team/app") {
		t.Error("a name went before node knew of its generation")
	}
	k.applied(3)
	*now = now.Add(2 * time.Hour)
	k.sweep()
	if routed(k, "127.0.0.1:1", "new/app") {
		t.Error("it never goes")
	}
}

// TestLongLayerKeepsTheRoute: a request under way is a use, however long it
// takes, also one that began before the name was on its way out.
func TestLongLayerKeepsTheRoute(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k := keeperIn(t, t.TempDir())
	k.retired.now = func() time.Time { return now }
	if err := k.offer(encode(t, withOld(1)), true); err != nil {
		t.Fatal(err)
	}
	first := k.retired.use("a.example.com", "team/app")
	if err := k.offer(encode(t, published(2, dead("new"))), true); err != nil {
		t.Fatal(err)
	}
	second := k.retired.use("a.example.com", "team/app")
	k.applied(2)
	second()
	now = now.Add(time.Hour)
	k.sweep()
	if !k.routed("a.example.com", "team/app") {
		t.Error("the route went while a layer was on its way")
	}
	first()
	now = now.Add(DefaultQuiet - time.Second)
	k.sweep()
	if !k.routed("a.example.com", "team/app") {
		t.Error("the next layer of the same pull finds no route")
	}
	now = now.Add(time.Second)
	k.sweep()
	if k.routed("a.example.com", "team/app") || len(k.retired.open) != 0 {
		t.Errorf("it never goes; under way: %v", k.retired.open)
	}
}

// routed looks without being a use.
func (k *keeper) routed(host, repository string) bool {
	_, ok := k.table.Match(host, repository)
	return ok
}
