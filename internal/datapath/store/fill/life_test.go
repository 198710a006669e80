package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// TestMain: nothing of a Filler outlives it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestAlone: below half, or slow, a fill that nobody reads ends after a while, and what came is
// kept. Else it goes on to the end.
func TestAlone(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		come int           // Reads before all clients leave
		per  time.Duration // between two Reads afterwards
		kept bool          // it ends
	}{
		"below half":    {come: 10, per: 10 * time.Second, kept: true},
		"above half":    {come: 60, per: 100 * time.Millisecond},
		"fast":          {come: 1, per: 100 * time.Millisecond},
		"above, silent": {come: 60, per: 59 * time.Second, kept: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T) {
				b, s := newBench(t), newScript(t, 3<<20)
				s.hold = newGate()
				r, err := b.Open(t.Context(), s.digest, 0, s)
				if err != nil {
					t.Fatal(err)
				}
				s.hold.let(test.come)
				synctest.Wait()
				_ = r.Close()
				for range 97 {
					<-time.After(test.per)
					if len(b.told.ends()) > 0 {
						break
					}
					s.hold.let(1)
				}
				<-time.After(time.Second)
				_, kept := b.blobs.Kept(s.digest)
				if ends := b.told.ends(); kept != test.kept || len(ends) != 1 || errors.Is(ends[0], ErrAlone) != test.kept {
					t.Errorf("kept %v, told %v", kept, ends)
				}
				s.hold.let(200)
				b.whole(s)
				b.settled()
				s.once(t, 2)
			})
		})
	}
}

// TestNotAloneAgain: who comes back in time keeps it going.
func TestNotAloneAgain(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.hold = newGate()
		s.hold.let(1)
		for range 5 {
			r, err := b.Open(t.Context(), s.digest, 0, s)
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Close()
			_ = r.Close() // twice is once
			<-time.After(50 * time.Second)
		}
		s.hold.let(100)
		b.whole(s)
		b.settled()
		s.once(t, 1)
	})
}

// TestCloseKeepsWhatCame: all ends, what is there is kept, and nothing is opened any more.
func TestCloseKeepsWhatCame(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	s.hold = newGate()
	s.hold.let(10)
	r, err := b.Open(t.Context(), s.digest, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10*chunk)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := io.ReadAll(r)
		ended <- err
	}()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) || r.At() != 10*chunk {
		t.Errorf("at byte %d: %v", r.At(), err)
	}
	_ = r.Close()
	if _, err := b.Open(t.Context(), s.digest, 0, s); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	p, err := b.blobs.Begin(s.digest, large)
	if err != nil || p.Covered(0) != 10*chunk {
		t.Fatalf("kept up to %d, %v", p.Covered(0), err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoRoom: not a byte is fetched for a blob that there is no room for.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	b.room.full = true
	if _, err := b.Open(t.Context(), s.digest, 0, s); !errors.Is(err, ErrNoStore) || s.given() > 0 {
		t.Errorf("%v, %d bytes", err, s.given())
	}
	b.settled()
	b.room.full = false
	b.whole(s)
}

// TestDiskFull in mid-fill: readers learn that it is the store, at their byte, and the room is
// given back.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	b.disk.write = func(at int64) error {
		if at >= 500_000 {
			return syscall.ENOSPC
		}
		return nil
	}
	got, err := b.read(t.Context(), s, 0, -1)
	if !errors.Is(err, ErrNoStore) || !errors.Is(err, syscall.ENOSPC) || !bytes.Equal(got, s.data[:len(got)]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	b.settled()
	if _, ok := b.blobs.Kept(s.digest); ok || b.room.kept[s.digest] {
		t.Error("a full disk keeps it")
	}
	b.disk.set(func() { b.disk.write = nil })
	b.whole(s)
}

// TestDiskCannotRead what is there, partial or whole.
func TestDiskCannotRead(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	b.disk.read = func(int64) error { return syscall.EIO }
	if _, err := b.read(t.Context(), s, 0, -1); !errors.Is(err, ErrNoStore) {
		t.Errorf("partial: %v", err)
	}
	b.settled()
	if _, err := b.read(t.Context(), s, 0, -1); !errors.Is(err, ErrNoStore) {
		t.Errorf("whole: %v", err)
	}
}

// TestCommitFails: readers do not notice, nor does who comes while they read; later it is tried again
// and nothing is fetched for it.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	b.disk.rename = func(to string) error {
		if _, whole, _ := bytes.Cut([]byte(to), []byte("blobs/")); len(whole) > 0 {
			return syscall.EIO
		}
		return nil
	}
	r, err := b.Open(t.Context(), s.digest, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	b.whole(s)
	b.whole(s)
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_ = r.Close()
	b.settled()
	if ends := b.told.ends(); len(ends) != 1 || !errors.Is(ends[0], syscall.EIO) {
		t.Errorf("told %v", ends)
	}
	b.disk.set(func() { b.disk.rename = nil })
	b.whole(s)
	b.settled()
	if _, ok := b.blobs.Stat(s.digest); !ok {
		t.Error("it was not committed")
	}
	s.once(t, 1)
}

// TestCommitIsNotWaitedFor: all bytes are given out while the disk syncs, and who comes joins.
func TestCommitIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	enough := make(chan struct{})
	b.disk.rename = func(string) error { <-enough; return nil }
	for range 3 {
		b.whole(s)
	}
	close(enough)
	b.settled()
	b.whole(s)
	s.once(t, 1)
	if n := b.told.opened; n[Began] != 1 || n[Joined] != 2 || n[Hit] != 1 {
		t.Errorf("told %v", n)
	}
}

// TestReadersOutliveTheFill: they read on when it is committed, and when the blob is removed.
func TestReadersOutliveTheFill(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	r, err := b.Open(t.Context(), s.digest, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	b.settled()
	if err := b.blobs.Remove(s.digest); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestWaitsAsLongAsItsClient and not longer, for the size and for a byte.
func TestWaitsAsLongAsItsClient(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.hold = newGate()
		silent := make(chan struct{})
		s.fault = func(int, int64) error { <-silent; return nil }
		short := func() context.Context {
			ctx, stop := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(stop)
			return ctx
		}
		if _, err := b.Open(short(), s.digest, 0, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		close(silent)
		r, err := b.Open(short(), s.digest, 0, s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		_ = r.Close()
	})
}

// TestNearIsWaitedFor, and what is far begins an answer of its own.
func TestNearIsWaitedFor(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		b, s := newBench(t), newScript(t, large)
		s.hold = newGate()
		ctx, leave := context.WithCancel(t.Context())
		for _, at := range []int64{0, 64 << 10, 64<<10 + 1, 600_000, 650_000} {
			r, err := b.Open(t.Context(), s.digest, at, s)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer func() { _ = r.Close() }()
				<-ctx.Done()
			}()
			go func() { _, _ = r.Read(make([]byte, 1)) }()
			synctest.Wait()
		}
		if got := s.asked(); len(got) != 3 || got[1] != "65537--1" || got[2] != "600000--1" {
			t.Errorf("asked for %v", got)
		}
		s.hold.let(1000)
		b.settled()
		s.once(t, 3)
		leave()
	})
}
