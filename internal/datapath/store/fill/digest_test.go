package fill

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// TestWrongBytesAreNeverWhole: all who read wrong bytes end before the last one, also those
// who came in the middle. The next Open asks anew, and gets the right ones.
func TestWrongBytesAreNeverWhole(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	s.data[500_000]++
	right := bytes.Clone(s.data)
	right[500_000]--
	s.hold = newGate()
	var all sync.WaitGroup
	read := func(from int64) {
		r, err := b.Open(t.Context(), s.digest, from, s)
		if err != nil {
			t.Error(err)
			return
		}
		all.Go(func() {
			defer func() { _ = r.Close() }()
			_, err := io.ReadAll(r)
			if !errors.Is(err, blob.ErrDigest) || errors.Is(err, io.EOF) || r.At() >= int64(len(s.data)) {
				t.Errorf("from %d: %v at byte %d", from, err, r.At())
			}
		})
	}
	for range 8 {
		read(0)
		read(large - 1)
	}
	s.hold.let(1 << 16)
	all.Wait()
	b.settled()
	if n := s.given(); n != large {
		t.Errorf("%d bytes were fetched of %d", n, large)
	}
	if _, ok := b.blobs.Kept(s.digest); ok || b.room.kept[s.digest] || len(b.blobs.Blobs()) > 0 {
		t.Error("wrong bytes stay on disk")
	}
	s.data = right
	b.whole(s)
	if ends := b.told.ends(); !errors.Is(ends[0], blob.ErrDigest) {
		t.Errorf("told %v", ends)
	}
}

// TestPartsNeedNoDigest: only whole blobs are promised to be right.
func TestPartsNeedNoDigest(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	s.hold = newGate()
	s.hold.let(2)
	got, err := b.read(t.Context(), s, 0, chunk)
	if err != nil || !bytes.Equal(got, s.data[:chunk]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestSmallBlobs(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 2, chunk, chunk + 1} {
		b, s := newBench(t), newScript(t, size)
		b.whole(s)
		b.settled()
		b.whole(s)
		s.once(t, 1)
		if b.told.opened[Hit] != 1 {
			t.Errorf("%d bytes: %v", size, b.told.opened)
		}
		wrong := newScript(t, size)
		wrong.digest = "sha256:" + "0000000000000000000000000000000000000000000000000000000000000000"
		if got, err := b.read(t.Context(), wrong, 0, -1); !errors.Is(err, blob.ErrDigest) || len(got) > max(size-1, 0) {
			t.Errorf("%d wrong bytes: %d were read, %v", size, len(got), err)
		}
	}
}

// TestLastByteIsHeldBack: until the digest is known to be right, for whoever reads a whole
// blob. Without that somebody has all of the wrong bytes.
func TestLastByteIsHeldBack(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			b, s := newBench(t, func(c *Config) { c.holdNothing = off }), newScript(t, large)
			s.data[0]++
			s.hold = newGate()
			s.hold.let((large + chunk - 1) / chunk) // all bytes, but not the end: nothing is verified
			r, err := b.Open(t.Context(), s.digest, 0, s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = io.ReadFull(r, make([]byte, large-1)); err != nil {
				t.Fatal(err)
			}
			last := make(chan error, 1)
			go func() {
				_, err := r.Read(make([]byte, 1))
				last <- err
			}()
			synctest.Wait()
			if given := len(last) == 1; given != off {
				t.Errorf("the last byte was given: %v", given)
			}
			s.hold.let(1)
			if err := <-last; !off && !errors.Is(err, blob.ErrDigest) {
				t.Errorf("in the end: %v", err)
			}
			_ = r.Close()
		})
	}
}
