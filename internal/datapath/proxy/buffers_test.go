package proxy

import "testing"

// TestLargeBuffersAreFew: who comes when all are out gets a small one, as who has no use for
// more, and one that is given back is there for the next.
func TestLargeBuffersAreFew(t *testing.T) {
	t.Parallel()
	b := &buffers{}
	for range 3 {
		var out [][]byte
		isLarge := 0
		for range largeBuffers {
			for _, length := range []int64{small, small + 1, -1, 0} {
				p := b.For(length)
				if out = append(out, p); len(p) == large {
					isLarge++
				}
				if len(p) == large && length >= 0 && length <= small {
					t.Errorf("a large one for %d bytes", length)
				}
			}
		}
		if isLarge != largeBuffers {
			t.Fatalf("%d large ones, want %d", isLarge, largeBuffers)
		}
		for _, p := range out {
			b.Put(p)
		}
	}
}
