package space

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// disk is a file system of which others have a part.
type disk struct {
	mu     sync.Mutex
	total  int64
	others int64
	ours   map[string]int64
	broken error
	stuck  map[string]bool
	tries  int      // to remove what is stuck
	gone   []string // in the order in which they went
}

func (d *disk) free() (total, free int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	free = d.total - d.others
	for _, n := range d.ours {
		free -= n
	}
	return d.total, free, d.broken
}

func (d *disk) remove(digest string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stuck[digest] {
		d.tries++
		return errors.New("input/output error")
	}
	delete(d.ours, digest)
	d.gone = append(d.gone, digest)
	return nil
}

func (d *disk) write(digest string, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ours[digest] = size
}

func (d *disk) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := d.gone
	d.gone = nil
	return gone
}

func newDisk(total int64) *disk {
	return &disk{total: total, ours: map[string]int64{}, stuck: map[string]bool{}}
}

func keeper(d *disk, cfg Config, have ...blob.Info) *Keeper {
	cfg.Free, cfg.Remove = d.free, d.remove
	for _, b := range have {
		d.ours[b.Digest] = b.Size
	}
	return New(cfg, have, Uses{})
}

func store(t *testing.T, d *disk, k *Keeper, n int, size int64) {
	t.Helper()
	take, done, err := k.Reserve(digest(n), size)
	if err == nil {
		err = take(int(size))
	}
	if err != nil {
		t.Fatal(err)
	}
	d.write(digest(n), size)
	done(true)
}

func TestOldestGoFirst(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 1000, Second: func(s string) bool { return s == digest(7) }})
	for n := range 9 {
		store(t, d, k, n, 100)
	}
	k.Used(digest(0))
	k.Pin([]string{digest(1)})
	store(t, d, k, 9, 100) // 1000 are over the high mark of 900: down to 800
	if got := d.took(); !slices.Equal(got, []string{digest(7), digest(2)}) {
		t.Errorf("%v went; want the second copy, then the oldest that is not pinned", got)
	}
}

// Nobody's cache is thrown away for a blob that has no room anyway.
func TestWhatCannotFitEvictsNothing(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 1000, Floor: 500})
	for n := range 8 {
		store(t, d, k, n, 100)
	}
	k.Pin([]string{digest(0), digest(1)})
	for _, size := range []int64{801, 1001, math.MaxInt64, -1} {
		if _, _, err := k.Reserve(digest(99), size); err == nil {
			t.Errorf("%d bytes have room", size)
		}
	}
	if got := d.took(); got != nil {
		t.Errorf("%v went", got)
	}
}

// What goes for a blob is about what came of it: what its registry says of its size may be a lie.
func TestASizeThatIsALie(t *testing.T) {
	t.Parallel()
	const size, step = 950, 20
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 1000, step: step})
	for n := range 8 {
		store(t, d, k, n, 100)
	}
	take, done, err := k.Reserve(digest(9), size)
	if err != nil {
		t.Fatal(err)
	}
	for came := range int64(size / 10) {
		came *= 10
		// Others of 100 bytes go as a whole, and from 90 % on down to 80 %.
		if u := k.Usage(); u.Evicted.Bytes > max(came+step-100, 0)+200 || came == 0 && u.Evicted.Bytes > 0 || u.Kept+u.Coming > 1000 {
			t.Errorf("%d bytes came: %+v", came, u)
		}
		if came == 50 { // it breaks off, and what came of it is kept
			if done(true); k.Usage().Kept > 800+50+step {
				t.Errorf("%+v", k.Usage())
			}
			if take, done, err = k.Reserve(digest(9), size); err != nil {
				t.Fatal(err)
			}
		}
		if err := take(10); err != nil {
			t.Fatal(err)
		}
		d.write(digest(9), came+10)
	}
	done(true)
	if u := k.Usage(); u.Kept > 1000 || u.Coming != 0 || k.kept[digest(9)].size != size || k.bytes.promised != 0 || k.bytes.ahead != 0 {
		t.Errorf("%+v, %+v", u, k.bytes)
	}
}

// Who begins first gets all that he was promised; the disk's floor holds while bytes come.
func TestRoomIsPromised(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 1000, Floor: 100, step: 10})
	take, done, err := k.Reserve(digest(0), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Reserve(digest(1), 600); !errors.Is(err, ErrFull) {
		t.Errorf("promised twice: %v", err)
	}
	d.others = 9500 // 400 are left for us
	for came := int64(0); err == nil && came < 600; came += 10 {
		if err = take(10); err == nil {
			d.write(digest(0), came+10)
		}
	}
	if _, free, _ := d.free(); !errors.Is(err, ErrFull) || free < 100 || free > 130 {
		t.Errorf("%d are free: %v", free, err)
	}
	done(false)
	if k.bytes.promised != 0 || k.bytes.coming != 0 || k.bytes.ahead != 0 {
		t.Errorf("%+v", k.bytes)
	}
}

func TestPinsFillTheQuota(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 1000})
	var pins []string
	for n := range 10 {
		store(t, d, k, n, 100)
		pins = append(pins, digest(n))
		k.Pin(pins)
	}
	_, _, err := k.Reserve(digest(10), 100)
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "images in use") || !k.Usage().PinsOver {
		t.Errorf("%v, %+v: want that it says so", err, k.Usage())
	}
	k.Pin(nil)
	store(t, d, k, 10, 100)
}

func TestOthersFillTheDisk(t *testing.T) {
	t.Parallel()
	d := newDisk(2000)
	k := keeper(d, Config{Quota: 1000, Floor: 500})
	store(t, d, k, 1, 300)
	d.others = 1300
	store(t, d, k, 2, 100) // 1 has to go for it
	if got := d.took(); !slices.Equal(got, []string{digest(1)}) {
		t.Errorf("%v went", got)
	}
	d.others = 1900
	if err := k.Tick(); err != nil || len(d.took()) != 1 {
		t.Errorf("the tick left it there: %v", err)
	}
	if _, _, err := k.Reserve(digest(3), 1); !errors.Is(err, ErrFull) {
		t.Errorf("below the floor: %v", err)
	}
	d.others, d.broken = 0, errors.New("stale handle")
	if _, _, err := k.Reserve(digest(3), 1); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "stale handle") {
		t.Errorf("nobody knows what is free: %v", err)
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 1000, Idle: 3})
	for n := range 3 {
		store(t, d, k, n, 10)
	}
	k.Pin([]string{digest(2)})
	for range 3 {
		if err := k.Tick(); err != nil {
			t.Fatal(err)
		}
	}
	k.Used(digest(1))
	if err := k.Tick(); err != nil {
		t.Fatal(err)
	}
	if got := d.took(); !slices.Equal(got, []string{digest(0)}) {
		t.Errorf("%v went", got)
	}
}

// A blob that cannot be removed is tried again a tick later, and not in between.
func TestStuck(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 100}, blob.Info{Digest: digest(0), Size: 60})
	d.stuck[digest(0)] = true
	if _, _, err := k.Reserve(digest(1), 60); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("%v", err)
	}
	if d.tries != 1 {
		t.Errorf("%d tries to remove it", d.tries)
	}
	delete(d.stuck, digest(0))
	if err := k.Tick(); err != nil {
		t.Fatal(err)
	}
	store(t, d, k, 1, 60)
}

// A partial that was left counts, may go, and counts once when somebody goes on with it.
func TestPartials(t *testing.T) {
	t.Parallel()
	d := newDisk(10_000)
	k := keeper(d, Config{Quota: 100}, blob.Info{Digest: digest(0), Size: 60})
	_, done, err := k.Reserve(digest(0), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Reserve(digest(1), 60); !errors.Is(err, ErrFull) {
		t.Errorf("room was taken from a fill: %v", err)
	}
	if _, _, err := k.Reserve(digest(0), 10); err == nil {
		t.Error("two fills of one digest")
	}
	done(true)
	done(true)
	store(t, d, k, 1, 60)
	if u := k.Usage(); u.Kept != 60 || u.Coming != 0 || !slices.Equal(d.took(), []string{digest(0)}) {
		t.Errorf("%+v", u)
	}
	k.Gone(digest(1))
	if u := k.Usage(); u.Kept != 0 {
		t.Errorf("%+v", u)
	}
}

// Many ask at once, and removing takes its time: never is more promised than there is.
func TestReserveAtOnce(t *testing.T) {
	t.Parallel()
	d := newDisk(5000)
	cfg := Config{Quota: 1000, Floor: 100}
	k := keeper(d, cfg)
	var all sync.WaitGroup
	for w := range 16 {
		all.Go(func() {
			for i := range 200 {
				n := (w*7 + i*13) % 64
				_, done, err := k.Reserve(digest(n), int64(10+n))
				if u := k.Usage(); u.Kept+u.Coming > cfg.Quota {
					t.Errorf("%d and %d bytes of %d", u.Kept, u.Coming, cfg.Quota)
				}
				if err != nil {
					continue
				}
				d.write(digest(n), int64(10+n))
				k.Used(digest((n + 1) % 64))
				done(i%3 > 0)
			}
		})
	}
	all.Wait()
	if u := k.Usage(); u.Coming != 0 || u.Kept > 1000 || u.Evicted.Blobs == 0 {
		t.Errorf("%+v", u)
	}
}
