package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// TestBrokenAnswerGoesOn at its byte, with the same source, and no byte comes twice.
func TestBrokenAnswerGoesOn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.cut = func(n int, _ int64) int64 { return []int64{100_000, 0, -1}[n] }
		b.whole(s)
		b.settled()
		s.once(t, 3)
		if got := strings.Join(s.asked(), " "); got != "0--1 100000--1 100000--1" {
			t.Errorf("asked for %s", got)
		}
	})
}

// TestBrokenSourceEndsTheFill: after two more tries, with its own error. What came is there for
// the next Open, which may have another source.
func TestBrokenSourceEndsTheFill(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.cut = func(n int, _ int64) int64 { return []int64{500_000, 100_000, 0}[n] }
		began := time.Now()
		got, err := b.read(t.Context(), s, 0, -1)
		if !errors.Is(err, errBroke) || errors.Is(err, io.EOF) || !bytes.Equal(got, s.data[:len(got)]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if !strings.Contains(err.Error(), fmt.Sprintf("%s at byte %d", s.digest, len(got))) {
			t.Errorf("it does not say what and where: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		b.settled()
		if size, ok := b.blobs.Kept(s.digest); !ok || size != large || !b.room.kept[s.digest] {
			t.Error("what came was not kept")
		}
		if n := len(s.asked()); n != 3 {
			t.Errorf("%d requests", n)
		}
		s.cut = nil
		b.whole(s)
		b.settled()
		s.once(t, 4)
	})
}

// TestNothingIsKeptThatWasDenied: what came of a size that was a lie, or of bytes that are denied, is not
// what the next Open goes on with: it would be told the same for ever.
func TestNothingIsKeptThatWasDenied(t *testing.T) {
	t.Parallel()
	for name, why := range map[string]error{"place": ErrRange, "another place": ErrPlace, "size": ErrSize, "digest": blob.ErrDigest} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				b, s := newBench(t), newScript(t, 100_000)
				s.cut = func(n int, _ int64) int64 { return []int64{50_000, -1}[min(n, 1)] }
				s.lie = func(n int, a *Answer) {
					if n == 0 {
						a.Size = large
					}
				}
				s.fault = func(n int, _ int64) error {
					if n == 1 {
						return fmt.Errorf("denied: %w", why)
					}
					return nil
				}
				if got, err := b.read(t.Context(), s, 0, -1); !errors.Is(err, why) || len(s.asked()) != 2 {
					t.Errorf("%d bytes, %v; asked for %v", len(got), err, s.asked())
				}
				b.settled()
				if size, ok := b.blobs.Kept(s.digest); ok {
					t.Errorf("something of %d bytes is kept", size)
				}
				b.whole(s)
			})
		})
	}
}

// TestSourceThatBreaksOnAndOn is given up: a byte each time is no progress.
func TestSourceThatBreaksOnAndOn(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			b, s := newBench(t), newScript(t, large)
			s.single = single
			s.cut = func(int, int64) int64 { return 1000 }
			if _, err := b.read(t.Context(), s, 0, -1); !errors.Is(err, errBroke) || len(s.asked()) != 3 {
				t.Errorf("%d requests, %v", len(s.asked()), err)
			}
		})
	}
}

// TestFirstAnswerFails: the error is the source's, for all who wait, and nothing is tried again.
func TestFirstAnswerFails(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	gone := errors.New("404 Not Found")
	s.fault = func(int, int64) error { return gone }
	if _, err := b.Open(t.Context(), s.digest, 5, s); !errors.Is(err, gone) || len(s.asked()) != 1 {
		t.Errorf("%v, %v", err, s.asked())
	}
	b.settled()
	if _, ok := b.blobs.Kept(s.digest); ok {
		t.Error("nothing was kept as something")
	}
}

// TestPlaceBehindTheEnd ends that reader, at once and without an error, and nobody else.
func TestPlaceBehindTheEnd(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	r, err := b.Open(t.Context(), s.digest, large+1, s)
	if err != nil || r.Size() != large {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = r.Close()
	b.whole(s)
	b.settled()
	s.once(t, 2)
}

// TestOneAnswerAtATime: a source that refuses a second answer is not asked for it again and again.
func TestOneAnswerAtATime(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.hold = newGate()
		s.fault = func(int, int64) error {
			<-time.After(time.Millisecond)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.open > 0 {
				return errors.New("429 Too Many Requests")
			}
			return nil
		}
		var all sync.WaitGroup
		all.Go(func() { b.clients(s, 8) })
		<-time.After(time.Second)
		if n := len(s.asked()); n > 4 {
			t.Errorf("asked %d times while one answer comes", n)
		}
		s.hold.let(1000)
		all.Wait()
		b.settled()
		s.once(t, 6) // the first, up to three that were refused, and the other gap
	})
}

// TestWithoutRanges: one answer from the first byte on, wherever the first reader is.
func TestWithoutRanges(t *testing.T) {
	t.Parallel()
	for _, first := range []int64{0, 700_000} {
		b, s := newBench(t), newScript(t, large)
		s.single = true
		if got, err := b.read(t.Context(), s, first, first+1000); err != nil || !bytes.Equal(got, s.data[first:first+1000]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		b.clients(s, 8)
		b.settled()
		s.once(t, 4)
	}
}

// TestBrokenWithoutRanges: what is there is read again, and goes nowhere.
func TestBrokenWithoutRanges(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.single = true
		s.cut = func(n int, _ int64) int64 { return []int64{500_000, -1}[n] }
		b.whole(s)
		if n := s.given(); n != large+500_000 {
			t.Errorf("%d bytes were given", n)
		}
	})
}

// TestLies: a source that says or gives what cannot be is refused by name.
func TestLies(t *testing.T) {
	t.Parallel()
	broken := func(n int, _ int64) int64 { return []int64{1000, -1, -1}[n] }
	tests := map[string]struct {
		lie  func(n int, a *Answer)
		cut  func(n int, from int64) int64
		want error
	}{
		"no size":          {lie: func(_ int, a *Answer) { a.Size = -1 }, want: ErrNoSize},
		"before 0":         {lie: func(_ int, a *Answer) { a.From = -1 }, want: ErrPlace},
		"after":            {lie: func(_ int, a *Answer) { a.From = 1 }, want: ErrPlace},
		"too large":        {lie: func(_ int, a *Answer) { a.Size = 1 << 62 }, want: io.ErrUnexpectedEOF},
		"more than said":   {lie: func(_ int, a *Answer) { more(a, 1) }, want: ErrSize},
		"never ends":       {lie: func(_ int, a *Answer) { more(a, 1<<62) }, want: ErrSize},
		"fewer than said":  {lie: func(_ int, a *Answer) { a.Size += 5 }, want: io.ErrUnexpectedEOF},
		"another size now": {lie: func(n int, a *Answer) { a.Size += int64(n) }, cut: broken, want: ErrSize},
		"no size now":      {lie: func(n int, a *Answer) { a.Size -= int64(n) << 40 }, cut: broken, want: ErrNoSize},
		"after now":        {lie: func(n int, a *Answer) { a.From += int64(n) }, cut: broken, want: ErrPlace},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				b, s := newBench(t), newScript(t, large)
				s.lie, s.cut = test.lie, test.cut
				got, err := b.read(t.Context(), s, 0, -1)
				if !errors.Is(err, test.want) || errors.Is(err, io.EOF) || !bytes.Equal(got, s.data[:len(got)]) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				b.settled()
				s.lie, s.cut, s.requests = nil, nil, nil
				if _, ok := b.blobs.Kept(s.digest); ok { // of another size, or of none: begun anew
					_, _ = b.read(t.Context(), s, 0, -1)
					b.settled()
				}
				b.whole(s)
			})
		})
	}
}

func more(a *Answer, n int64) {
	if body, ok := a.Body.(*scriptBody); ok {
		body.more = n
	}
}

// TestNoBlob: what is none is not asked for.
func TestNoBlob(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, 10)
	for _, digest := range []string{"", "latest", "sha256:../../etc/passwd", strings.ToUpper(s.digest)} {
		if _, err := b.Open(t.Context(), digest, 0, s); err == nil {
			t.Errorf("%q was opened", digest)
		}
	}
	if _, err := b.Open(t.Context(), s.digest, -1, s); err == nil || len(s.asked()) > 0 {
		t.Errorf("%v, %v", err, s.asked())
	}
}

// TestClientsAreNoOwners: the first one leaves, the others have all of it. The control gives the fill
// the first one's context.
func TestClientsAreNoOwners(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} {
		b, s := newBench(t, func(c *Config) { c.oneClient = off }), newScript(t, large)
		s.hold = newGate()
		s.hold.let(3)
		ctx, leave := context.WithCancel(t.Context())
		first, err := b.Open(ctx, s.digest, 0, s)
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.Open(t.Context(), s.digest, 0, s)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		if _, err := io.ReadAll(first); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		_ = first.Close()
		s.hold.let(1 << 15)
		if _, err := io.ReadAll(second); off == (err == nil) {
			t.Errorf("with the client's context %v: %v", off, err)
		}
		_ = second.Close()
	}
}

// bubble runs a test in time of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
