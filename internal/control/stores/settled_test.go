package stores

import (
	"slices"
	"testing"
	"time"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

// follower is a Keeper that looks at a fleet after a switch.
type follower struct {
	*fleet
	keeper *Keeper
	now    time.Time
}

func follow(t *testing.T) *follower { return &follower{running(t), New(nil), today()} }

// look is what users are told, some seconds later, and in how many the next look is due.
func (f *follower) look(seconds int) (switchover.Stores, int) {
	f.now = f.now.Add(time.Duration(seconds) * time.Second)
	s := f.wish.Seen(f.there, nil)
	due := f.keeper.Settle(f.there, f.wish, &s, f.now)
	return s, int(due.Seconds())
}

// says looks, and wants it to say who is gone, and to look again in so many seconds.
func (f *follower) says(after, again int, gone ...string) {
	f.t.Helper()
	if s, due := f.look(after); !slices.Equal(s.Gone, gone) || due != again {
		f.t.Errorf("at %s: %q, and again in %d s; want %q, in %d s", f.now.Format(time.TimeOnly), s.Gone, due, gone, again)
	}
}

func (f *follower) dies(name string) {
	f.report(name, func(s *v1alpha1.StoreStatus) { s.State = v1alpha1.StoreWaiting })
}

// TestWhoIsGone: a store that is started anew is no news; one that is gone for a minute is, until
// it has served for a minute.
func TestWhoIsGone(t *testing.T) {
	t.Parallel()
	f := follow(t)
	f.says(0, 0)
	f.dies("b")
	f.says(10, 60)
	f.says(59, 1)
	f.serve("b")
	f.says(0, 60)
	f.says(60, 0)

	f.dies("b")
	f.says(0, 60) // at 00:02:09
	f.says(60, 0, "b: it does not serve, since 2026-12-01T00:02:09Z")
	f.lose("b")
	f.says(600, 0, "b: node is not Ready, since 2026-12-01T00:02:09Z")
	f.node("b").Status.Conditions[0].Status = "True"
	f.serve("b")
	f.says(10, 60, "b: node is not Ready, since 2026-12-01T00:02:09Z")
	f.says(60, 0)

	for range 3 { // it crashes again and again: that is one piece of news
		f.dies("b")
		f.look(40)
		f.serve("b")
		f.look(40)
	}
	f.dies("b")
	f.says(0, 0, "b: it does not serve, since 2026-12-01T00:14:59Z")
	f.node("c").Spec.Unschedulable = true
	f.exclude("a")
	f.look(0)
	f.says(60, 0, "a: left out by annotation registry.deckhouse.io/exclude, since 2026-12-01T00:18:19Z",
		"b: it does not serve, since 2026-12-01T00:14:59Z", "c: node is cordoned, since 2026-12-01T00:18:19Z")

	f.keeper.Forget()
	f.serve("b")
	f.says(0, 0, "a: left out by annotation registry.deckhouse.io/exclude, since 2026-12-01T00:19:19Z",
		"c: node is cordoned, since 2026-12-01T00:19:19Z")
}

// TestASilentAgentsStore: what was said of it last is not known to be so any more.
func TestASilentAgentsStore(t *testing.T) {
	t.Parallel()
	f := follow(t)
	f.says(0, 0)
	f.wish.Silent = map[string]time.Time{"b": f.now.Add(-3 * time.Minute)}
	f.says(1, 0, "b: its agent is silent, since 2026-11-30T23:57:00Z")
	f.wish.Silent = nil
	f.says(1, 60, "b: its agent is silent, since 2026-11-30T23:57:00Z")
	f.says(60, 0)
}

// TestANewNodeIsNoNews while its first store starts.
func TestANewNodeIsNoNews(t *testing.T) {
	t.Parallel()
	f := follow(t)
	f.says(0, 0)
	f.node("b").UID, f.there.RegistryNodes["b"].Status.NodeUID = "another", "another"
	f.dies("b")
	f.says(1, 60)
	f.says(60, 0, "b: it does not serve, since 2026-12-01T00:00:01Z")
}

// TestFiguresAreSteady: they move with each pull, and are told once a minute.
func TestFiguresAreSteady(t *testing.T) {
	t.Parallel()
	f := follow(t)
	holds := func(pins string, cached int64) {
		f.told(pins)
		for _, name := range []string{"a", "b", "c"} {
			f.report(name, func(s *v1alpha1.StoreStatus) { s.Cached, s.Wanted = cached, int64(len(pins)/4) })
		}
	}
	says := func(after, again, cached, used int) {
		t.Helper()
		if s, due := f.look(after); s.Cached != cached || s.Used != used || due != again {
			t.Errorf("at %s: %d of %d, and again in %d s; want %d of %d, in %d s", f.now.Format(time.TimeOnly), s.Cached, s.Used, due, cached, used, again)
		}
	}
	holds("a:1\na:2\na:3\n", 0)
	says(0, 0, 0, 3)
	holds("a:1\na:2\na:3\n", 1)
	says(20, 40, 0, 3)
	holds("a:1\na:2\na:3\n", 3)
	says(20, 20, 0, 3)
	says(20, 0, 3, 3)
	holds("a:1\na:2\na:3\na:4\n", 4)
	says(60, 0, 4, 4)
	says(1, 0, 4, 4)
}
