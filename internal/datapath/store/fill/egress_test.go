package fill

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

const large = 1<<20 + 12345

// TestOneFetch: however many want a blob at once, each byte comes once, with one request.
func TestOneFetch(t *testing.T) {
	t.Parallel()
	for _, clients := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			t.Parallel()
			b, s := newBench(t), newScript(t, large)
			var all sync.WaitGroup
			for range clients {
				all.Go(func() { b.whole(s) })
			}
			all.Wait()
			b.settled()
			b.whole(s) // from disk
			s.once(t, 1)
			if n := b.told.opened; n[Began] != 1 || n[Joined]+n[Hit] != clients || n[Hit] == 0 || b.told.fetched != large {
				t.Errorf("told %v, %d bytes fetched", n, b.told.fetched)
			}
		})
	}
}

// TestOneFetchInRanges: as containerd 2.1 pulls, four open ranges of each client at once.
func TestOneFetchInRanges(t *testing.T) {
	t.Parallel()
	for _, clients := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			t.Parallel()
			b, s := newBench(t), newScript(t, large)
			b.clients(s, clients)
			b.settled()
			s.once(t, 4)
		})
	}
}

// clients pull in four parallel ranges each.
func (b *bench) clients(s *script, clients int) {
	b.t.Helper()
	var all sync.WaitGroup
	size := int64(len(s.data))
	for range clients {
		for part := range int64(4) {
			all.Go(func() {
				from, to := size*part/4, size*(part+1)/4
				got, err := b.read(b.t.Context(), s, from, to)
				if err != nil || !bytes.Equal(got, s.data[from:to]) {
					b.t.Errorf("%d bytes from %d to %d, %v", len(got), from, to, err)
				}
			})
		}
	}
	all.Wait()
}

// TestOneFetchForThoseWhoComeAndGo: clients begin anywhere, leave in the middle and come back.
func TestOneFetchForThoseWhoComeAndGo(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b, s := newBench(t), newScript(t, large)
			s.piece = 1000
			var all sync.WaitGroup
			for client := range uint64(8) {
				all.Go(func() { b.comeAndGo(s, rand.New(rand.NewPCG(seed, client))) })
			}
			all.Wait()
			b.settled()
			s.once(t, 4)
		})
	}
}

func (b *bench) comeAndGo(s *script, rnd *rand.Rand) {
	b.t.Helper()
	for range 6 {
		from := rnd.Int64N(int64(len(s.data)))
		ctx, leave := context.WithCancel(b.t.Context())
		r, err := b.Open(ctx, s.digest, from, s)
		if err != nil {
			b.t.Errorf("open at %d: %v", from, err)
		} else {
			for range rnd.IntN(20) {
				at, p := r.At(), make([]byte, rnd.IntN(100_000))
				if rnd.IntN(20) == 0 {
					leave()
				}
				n, err := r.Read(p)
				if !bytes.Equal(p[:n], s.data[at:at+int64(n)]) {
					b.t.Errorf("%d bytes at %d are wrong", n, at)
				}
				if err != nil {
					break
				}
			}
			_ = r.Close()
		}
		leave()
	}
}

// TestRangesAreAskedForUpToTheNext: what is on its way when an answer is cut was sent for
// nothing, so only the first one, of which the size is not known yet, is asked for without an end.
func TestRangesAreAskedForUpToTheNext(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		first := make(chan struct{})
		s.fault = func(int, int64) error { <-first; return nil }
		var all sync.WaitGroup
		all.Go(func() { b.clients(s, 8) })
		synctest.Wait()
		close(first)
		all.Wait()
		b.settled()
		s.once(t, 4)
		open := 0
		for _, asked := range s.asked() {
			if strings.HasSuffix(asked, "--1") {
				open++
			}
		}
		if open > 2 { // and the one that ends at the end
			t.Errorf("asked for %v", s.asked())
		}
	})
}

// TestAnswersEndWhereOthersBegan. The control lets them run into each other.
func TestAnswersEndWhereOthersBegan(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			b, s := newBench(t, func(c *Config) { c.overlap = off }), newScript(t, large)
			s.hold = newGate()
			var all sync.WaitGroup
			for _, from := range []int64{0, 600_000} {
				all.Go(func() {
					if got, err := b.read(t.Context(), s, from, -1); err != nil || !bytes.Equal(got, s.data[from:]) {
						t.Errorf("%d bytes from %d, %v", len(got), from, err)
					}
				})
				synctest.Wait()
			}
			s.hold.let(1000)
			all.Wait()
			b.settled()
			if !off {
				s.once(t, 2)
			} else if s.given() == large {
				t.Error("the control finds nothing")
			}
		})
	}
}
