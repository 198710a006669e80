package shelf

import (
	"runtime"
	"testing"
	"time"
)

// TestShelf: equal values are held once, and nothing is held that nobody has.
func TestShelf(t *testing.T) {
	t.Parallel()
	var s Shelf[[4]int]
	a := s.Keep(ID{1}, &[4]int{1})
	if b := s.Keep(ID{1}, &[4]int{1}); a != b {
		t.Error("equal values are two")
	}
	if c := s.Keep(ID{2}, &[4]int{2}); a == c || c[0] != 2 {
		t.Error("other values are one")
	}
	for deadline := time.Now().Add(10 * time.Second); s.Len() > 1; runtime.Gosched() {
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d values are left, and one is held", s.Len())
		}
	}
	runtime.KeepAlive(a)
}
