package blob_test

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// onDisk is a store on a disk in memory.
func onDisk(t testing.TB, d *disktest.Disk, wrap func(disk.FS) disk.FS) *blob.Store {
	t.Helper()
	fsys := disk.FS(d.Process(nil))
	if wrap != nil {
		fsys = wrap(fsys)
	}
	s, err := blob.Open(t.Context(), fsys, blob.Options{Boot: "a"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestAnyOrder: in whatever pieces and order the bytes come, also twice, and whoever takes
// over in between, it is the blob.
func TestAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		data := content(rapid.IntRange(1, 2000).Draw(r, "size"))
		digest := digestOf(data)
		if rapid.Bool().Draw(r, "sha512") {
			digest = fmt.Sprintf("sha512:%x", sha512.Sum512(data))
		}
		d := disktest.New()
		s := onDisk(t, d, nil)
		p := begin(t, s, digest, len(data))
		there := make([]bool, len(data))
		for range rapid.IntRange(0, 20).Draw(r, "pieces") {
			from := rapid.IntRange(0, len(data)-1).Draw(r, "from")
			to := rapid.IntRange(from, len(data)).Draw(r, "to")
			if n, err := p.WriteAt(data[from:to], int64(from)); n != to-from || err != nil {
				r.Fatalf("%d of %d: %v", n, to-from, err)
			}
			for i := from; i < to; i++ {
				there[i] = true
			}
			if rapid.IntRange(0, 5).Draw(r, "another process") == 0 {
				if err := errors.Join(p.Close(), s.Close()); err != nil {
					r.Fatal(err)
				}
				s = onDisk(t, d, nil)
				if size, ok := s.Kept(digest); !ok || size != int64(len(data)) {
					r.Fatalf("of %d bytes there is %d kept, %v", len(data), size, ok)
				}
				p = begin(t, s, digest, len(data))
			}
			for i, is := range there {
				if (p.Covered(int64(i)) > int64(i)) != is {
					r.Fatalf("byte %d is there: %v", i, !is)
				}
			}
		}
		for gap, ok := p.Missing(0); ok; gap, ok = p.Missing(gap.To) {
			if err := p.Verify(); !errors.Is(err, blob.ErrMissing) {
				r.Fatalf("verified with a gap: %v", err)
			}
			if _, err := p.WriteAt(data[gap.From:gap.To], gap.From); err != nil {
				r.Fatal(err)
			}
		}
		if err := errors.Join(p.Verify(), p.Commit(), p.Close()); err != nil {
			r.Fatal(err)
		}
		if !bytes.Equal(get(t, s, digest), data) {
			r.Fatal("other bytes")
		}
	})
}

// TestFirstBytesWin: many write the same places at once, each bytes of its own. What a
// reader saw once is what it sees for ever, and what is hashed is what is there.
func TestFirstBytesWin(t *testing.T) {
	t.Parallel()
	const size, writers = 200_000, 6
	s := open(t, t.TempDir(), "a")
	p := begin(t, s, digestOf([]byte("x")), size)
	defer func() { _ = p.Close() }()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 0))
			for range 300 {
				from := r.IntN(size)
				b := bytes.Repeat([]byte{byte('a' + w)}, min(1+r.IntN(5000), size-from))
				if n, err := p.WriteAt(b, int64(from)); n != len(b) || err != nil {
					t.Errorf("%d of %d: %v", n, len(b), err)
				}
				if to := p.Covered(int64(from)); to < int64(from+len(b)) {
					t.Errorf("written to %d, and there to %d", from+len(b), to)
				}
			}
		})
	}
	seen := make([]byte, size)
	for range 4 {
		wg.Go(func() {
			mine := make([]byte, size)
			for range 100 {
				for at := int64(0); at < size; {
					to := p.Covered(at)
					if n, err := p.ReadAt(mine[at:to], at); int64(n) != to-at || err != nil && !errors.Is(err, io.EOF) {
						t.Errorf("%d of %d bytes: %v", n, to-at, err)
					}
					if bytes.IndexByte(mine[at:to], 0) >= 0 {
						t.Error("a byte is read that nobody wrote")
					}
					gap, ok := p.Missing(to)
					if !ok {
						break
					}
					at = gap.To
				}
			}
		})
	}
	wg.Wait()
	read := func(into []byte) {
		for at, b := range into {
			if p.Covered(int64(at)) > int64(at) && b == 0 {
				if _, err := p.ReadAt(into[at:at+1], int64(at)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	read(seen)
	if _, err := p.WriteAt(make([]byte, size), 0); err != nil {
		t.Fatal(err)
	}
	again := make([]byte, size)
	if _, err := p.ReadAt(again, 0); err != nil {
		t.Fatal(err)
	}
	for i, b := range seen {
		if b != 0 && again[i] != b {
			t.Fatalf("byte %d was %d and is %d", i, b, again[i])
		}
	}
	if err := p.Verify(); !errors.Is(err, blob.ErrDigest) {
		t.Errorf("bytes of nobody are verified: %v", err)
	}
}

// TestOneWriterOfAPlace: who comes with bytes that another is writing waits, and writes only
// what the other does not.
func TestOneWriterOfAPlace(t *testing.T) {
	t.Parallel()
	slow := &slowFS{at: make(chan struct{}), on: make(chan struct{})}
	s := onDisk(t, disktest.New(), func(f disk.FS) disk.FS { slow.FS = f; return slow })
	p := begin(t, s, digestOf(nil), 300)
	defer func() { _ = p.Close() }()
	write := func(letter string, at, n int) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := p.WriteAt(bytes.Repeat([]byte(letter), n), int64(at))
			done <- err
		}()
		return done
	}
	slow.hangs.Store(new("write"))
	first := write("a", 100, 100)
	<-slow.at
	slow.hangs.Store(new(string))
	if to := p.Covered(100); to != 100 {
		t.Fatalf("bytes up to %d are there before they are written", to)
	}
	second := write("b", 0, 300)
	select {
	case err := <-second:
		t.Fatalf("the second did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(slow.on)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 300)
	if _, err := p.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("b", 100) + strings.Repeat("a", 100) + strings.Repeat("b", 100); string(got) != want {
		t.Errorf("%q is there", got)
	}
}

// TestWrongBytes: what has another digest is never whole, and a new one can begin.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	d := disktest.New()
	s := onDisk(t, d, nil)
	data := content(1000)
	p := begin(t, s, digestOf(data), len(data))
	if _, err := p.WriteAt(lie(data), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err == nil {
		t.Error("committed without Verify")
	}
	for range 2 {
		if err := p.Verify(); !errors.Is(err, blob.ErrDigest) {
			t.Errorf("verified: %v", err)
		}
	}
	if err := p.Commit(); err == nil {
		t.Error("committed with another digest")
	}
	if err := p.Discard(); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Stat(digestOf(data)); ok || len(s.Partials()) != 0 {
		t.Errorf("%v, %v are there", s.Blobs(), s.Partials())
	}
	b := make([]byte, 10)
	if n, err := p.ReadAt(b, 0); n != 10 || err != nil {
		t.Errorf("who reads has %d, %v", n, err)
	}
	put(t, s, digestOf(data), data)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.ReadAt(b, 0); !errors.Is(err, fs.ErrClosed) || errors.Is(err, blob.ErrDamaged) {
		t.Errorf("after Close: %v", err)
	}
}

// TestRefused: what a hostile registry says about a blob is no place on our disk.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := onDisk(t, disktest.New(), nil)
	for _, digest := range []string{"", "sha256:", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + string(make([]byte, 64)), digestOf(nil) + "0"} {
		if _, err := s.Begin(digest, 10); err == nil {
			t.Errorf("%q has begun", digest)
		}
		if _, err := s.Open(digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q is opened: %v", digest, err)
		}
		if err := s.Remove(digest); err != nil {
			t.Errorf("%q: %v", digest, err)
		}
	}
	if _, err := s.Begin(digestOf(nil), -1); err == nil {
		t.Error("a size below 0")
	}
	huge := begin(t, s, digestOf(nil), math.MaxInt64)
	defer func() { _ = huge.Close() }()
	for at, want := range map[int64]bool{0: true, -1: false, math.MinInt64: false, math.MaxInt64: false, math.MaxInt64 - 1: false} {
		if _, err := huge.WriteAt([]byte("ab"), at); (err == nil) != want {
			t.Errorf("written at %d: %v", at, err)
		}
		if n, err := huge.ReadAt(make([]byte, 2), at); (err == nil) != want || n == 2 != want {
			t.Errorf("read at %d: %d, %v", at, n, err)
		}
	}
	if _, err := s.Begin(digestOf(nil), math.MaxInt64); !errors.Is(err, fs.ErrExist) {
		t.Errorf("two at once: %v", err)
	}
	if err := s.Remove(digestOf(nil)); err != nil {
		t.Error(err)
	}
	if n, err := huge.ReadAt(make([]byte, 3), 0); n != 2 || !errors.Is(err, blob.ErrMissing) {
		t.Errorf("of what is begun %d bytes are there after Remove: %v", n, err)
	}
}

// TestReadersDoNotWait: while a hash, a Sync or a write hangs, others read what is there.
func TestReadersDoNotWait(t *testing.T) {
	t.Parallel()
	data := content(800_000)
	for _, hangs := range []string{"read", "verify", "sync", "write"} {
		slow := &slowFS{at: make(chan struct{}), on: make(chan struct{})}
		s := onDisk(t, disktest.New(), func(f disk.FS) disk.FS { slow.FS = f; return slow })
		p := begin(t, s, digestOf(data), len(data))
		for at := 700_000; at > 0; at -= 100_000 { // to be hashed later, the last of it by Verify
			if _, err := p.WriteAt(data[at:at+100_000], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		slow.hangs.Store(&hangs)
		done := make(chan error)
		go func() {
			_, err := p.WriteAt(data[:100_000], 0)
			if hangs == "verify" {
				slow.hangs.Store(new("read"))
			}
			if err == nil {
				err = errors.Join(p.Verify(), p.Commit())
			}
			done <- err
		}()
		<-slow.at
		slow.hangs.Store(new(string))
		got := make([]byte, 1000)
		if n, err := p.ReadAt(got, 250_000); n != 1000 || err != nil || !bytes.Equal(got, data[250_000:251_000]) {
			t.Errorf("while a %s hangs: %d, %v", hangs, n, err)
		}
		if _, ok := s.Stat(digestOf(data)); ok || p.Size() != int64(len(data)) || p.Covered(250_000) != int64(len(data)) {
			t.Errorf("while a %s hangs: %v", hangs, s.Blobs())
		}
		close(slow.on)
		if err := errors.Join(<-done, p.Close()); err != nil {
			t.Errorf("%s: %v", hangs, err)
		}
		if !bytes.Equal(get(t, s, digestOf(data)), data) {
			t.Errorf("%s: other bytes", hangs)
		}
	}
}

// TestSpace: a partial takes what is there of it, whatever its size is to be.
func TestSpace(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s := open(t, path, "a")
	data := content(1000)
	p := begin(t, s, digestOf(data), 1<<30)
	_, err := p.WriteAt(data[:300], 500)
	_, more := p.WriteAt(data[:20], 1<<29)
	if err := errors.Join(err, more, p.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, "a")
	put(t, s, digestOf(nil), nil)
	all := s.Space()
	if len(all) != 2 || all[0].Size+all[1].Size != 320 {
		t.Errorf("%v", all)
	}
}
