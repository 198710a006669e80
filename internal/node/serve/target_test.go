package serve

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestTargetFails: the other half hears when pulls from the target begin to fail. What
// is known of one target says nothing about the next, and a retired name's pulls are
// the target's own.
func TestTargetFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := keeperIn(t, dir)
		if err := k.offer(encode(t, published(1, dead("one"))), true); err != nil {
			t.Fatal(err)
		}
		first, changed := k.snapshot()
		k.lookAtTarget()
		if now, _ := k.snapshot(); now != first {
			t.Errorf("before any pull: %+v", now)
		}
		for range 6 {
			if !routed(k, "registry.d8-system.svc:5001", "system/deckhouse/app") {
				t.Fatal("no route")
			}
			<-time.After(15 * time.Second)
		}
		k.lookAtTarget()
		failing, again := k.snapshot()
		if failing.TargetFails == "" || failing.Revision == first.Revision || failing.Generation != 1 {
			t.Errorf("six failed: %+v", failing)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was woken")
		}
		k.lookAtTarget()
		select {
		case <-again:
			t.Error("woken for nothing")
		default:
		}
		if err := k.offer(encode(t, published(2, dead("two"))), true); err != nil {
			t.Fatal(err)
		}
		if now, _ := k.snapshot(); now.TargetFails != "" || now.Generation != 2 {
			t.Errorf("the next target: %+v", now)
		}
	})
}
