// Package space says what may be written and what goes: quota, a floor of free space,
// use, pins, and the pace beside an etcd on the same disk.
//
// It counts in bytes and in ticks of running, and never reads a clock of the wall: a
// clock that jumps by ten years evicts nothing. It removes through the function that it
// was given and knows no files. Start at (*Keeper).Reserve, then Guard.
package space

import (
	"errors"
	"fmt"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// ErrFull is that there is no room for a blob, and that none can be made.
var ErrFull = errors.New("no room in the store")

const (
	// Above highPercent of the quota it is evicted to lowPercent, so that not each blob
	// that comes has to wait for one that goes.
	highPercent, lowPercent = 90, 80
	// mostRounds is how often room is made for one blob: what is read while it is removed
	// gives its room back later, and must not take all others with it.
	mostRounds = 8
)

// Config is what a Keeper goes by.
type Config struct {
	Quota int64 // at most so many bytes are kept
	Floor int64 // so many stay free on the file system, for others
	// Idle is after how many ticks without use a blob goes; 0 is never.
	Idle int64
	// Free is what the file system has free for us, in bytes.
	Free func() (total, free int64, err error)
	// Remove takes a blob from the disk, or the partial of one.
	Remove func(digest string) error
	// Second reports whether a blob is a copy that another store is there for: these go
	// first. nil is none.
	Second func(digest string) bool
}

// Keeper knows what is on disk and what is to come, and makes room.
type Keeper struct {
	cfg Config

	mu      sync.Mutex
	changed *sync.Cond // something has left, or has not
	kept    map[string]*entry
	coming  map[string]int64
	pinned  map[string]bool
	now     int64  // ticks of running
	turn    uint64 // of use: within a tick too, the order is known
	bytes   struct{ kept, coming, leaving int64 }
	evicted Evicted
}

// entry is what is on disk of one digest.
type entry struct {
	size    int64
	used    int64 // the tick
	turn    uint64
	leaving bool
	stuck   int64 // not tried again in this tick: it could not be removed
}

// Evicted is what was removed so far.
type Evicted struct{ Blobs, Bytes int64 }

// Usage is the state of the moment, in bytes.
type Usage struct {
	Kept, Coming, Pinned, Quota, Floor int64
	Blobs                              int
	Pins, PinsHere                     int // digests that are pinned, and those of them that are kept
	Evicted                            Evicted
	// PinsOver says that what is in use alone leaves no room: nothing else is stored.
	PinsOver bool
}

// New is a Keeper of what is on disk: whole blobs, and partials that nobody works at. What
// uses does not know was used just now, so that a list that is lost evicts nothing.
func New(cfg Config, have []blob.Info, uses Uses) *Keeper {
	k := &Keeper{cfg: cfg, kept: map[string]*entry{}, coming: map[string]int64{}, now: uses.now, turn: uint64(len(uses.of))}
	k.changed = sync.NewCond(&k.mu)
	for _, b := range have {
		e := &entry{size: b.Size, used: k.now, turn: k.turn + 1}
		if u, known := uses.of[b.Digest]; known {
			e.used, e.turn = u.tick, u.turn
		}
		k.kept[b.Digest] = e
		k.bytes.kept += b.Size
	}
	k.turn++
	return k
}

// Reserve is room for a blob that will come, of which a partial may be there; others may
// have to go for it. done is called once, when nothing is written any more, with whether
// anything of it stays on disk. The error is ErrFull: nothing is to be written then.
func (k *Keeper) Reserve(digest string, size int64) (done func(kept bool), err error) {
	var failed error
	for rounds := 0; rounds < mostRounds; {
		_, free, err := k.cfg.Free()
		if err != nil {
			return nil, fmt.Errorf("%w for %s: ask the file system what is free: %w", ErrFull, digest, err)
		}
		booked, victims, err := k.book(digest, size, free)
		if err != nil {
			return nil, errors.Join(err, failed)
		}
		failed = errors.Join(failed, k.remove(victims))
		if booked {
			return k.done(digest, size), nil
		}
		if len(victims) > 0 { // else it has waited for those of others, however many they are
			rounds++
		}
	}
	return nil, errors.Join(fmt.Errorf("%w for %s: what was removed did not free the disk", ErrFull, digest), failed)
}

// book takes the room if it is there; victims are to be removed in any case.
func (k *Keeper) book(digest string, size, free int64) (booked bool, victims []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.kept[digest] != nil && k.kept[digest].leaving {
		k.changed.Wait() // else its removal would meet the new one
	}
	if _, twice := k.coming[digest]; twice || size < 0 {
		return false, nil, fmt.Errorf("reserve %d bytes for %s: it is coming already, or has no size", size, digest)
	}
	if size > k.cfg.Quota {
		return false, nil, k.full(digest, size, free)
	}
	more, part := size, k.kept[digest]
	if part != nil {
		more -= part.size // what is there of it counts as coming from now on
	}
	must, want := k.lacking(more, free)
	switch {
	case must <= 0:
		if part != nil {
			k.drop(digest, part)
		}
		k.coming[digest] = size
		k.bytes.coming += size
		return true, k.pick(want, digest), nil
	case must > k.removable(digest):
		return false, nil, k.full(digest, size, free)
	case must <= k.bytes.leaving:
		k.changed.Wait() // others make room already
		return false, nil, nil
	}
	return false, k.pick(want, digest), nil
}

// lacking is how many bytes have to go before so many more may come, and how many should.
func (k *Keeper) lacking(more, free int64) (must, want int64) {
	used := k.bytes.kept + k.bytes.coming + more
	must = used - k.cfg.Quota
	if high := percent(k.cfg.Quota, highPercent); used > high {
		// Where images in use fill most of it, what is between them and the mark is not all
		// thrown out for each blob that comes.
		low := max(percent(k.cfg.Quota, lowPercent), (k.pinnedBytes()+high)/2)
		want = used - low
	}
	// What is to come is not on disk yet, as far as anybody knows.
	floor := k.cfg.Floor - (free - k.bytes.coming - more)
	return max(must, floor), max(want, floor)
}

// percent divides first: a quota times a hundred may be no int64.
func percent(n, p int64) int64 { return n/100*p + n%100*p/100 }

// full says why there is no room.
func (k *Keeper) full(digest string, size, free int64) error {
	if pinned := k.pinnedBytes(); pinned+size > k.cfg.Quota {
		return fmt.Errorf("%w for the %d bytes of %s: %d of the %d bytes of the quota are images in use, which stay",
			ErrFull, size, digest, pinned, k.cfg.Quota)
	}
	return fmt.Errorf("%w for the %d bytes of %s: %d kept and %d coming of %d, and %d free on the disk of which %d stay free",
		ErrFull, size, digest, k.bytes.kept, k.bytes.coming, k.cfg.Quota, free, k.cfg.Floor)
}

func (k *Keeper) done(digest string, size int64) func(bool) {
	var once sync.Once
	return func(kept bool) {
		once.Do(func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(k.coming, digest)
			k.bytes.coming -= size
			if kept {
				k.turn++
				k.kept[digest] = &entry{size: size, used: k.now, turn: k.turn}
				k.bytes.kept += size
			}
		})
	}
}

// Used notes that a blob was asked for.
func (k *Keeper) Used(digest string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.kept[digest]; e != nil {
		k.turn++
		e.used, e.turn = k.now, k.turn
	}
}

// Pin replaces what is never evicted: what the cluster runs.
func (k *Keeper) Pin(digests []string) {
	pinned := make(map[string]bool, len(digests))
	for _, d := range digests {
		pinned[d] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pinned = pinned
}

// Gone is that a blob is not on disk any more, and that it was not the Keeper who removed it.
func (k *Keeper) Gone(digest string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.kept[digest]; e != nil && !e.leaving {
		k.drop(digest, e)
	}
}

func (k *Keeper) drop(digest string, e *entry) {
	delete(k.kept, digest)
	k.bytes.kept -= e.size
}

// Usage is for metrics and status.
func (k *Keeper) Usage() Usage {
	k.mu.Lock()
	defer k.mu.Unlock()
	u := Usage{
		Kept: k.bytes.kept, Coming: k.bytes.coming, Pinned: k.pinnedBytes(), Quota: k.cfg.Quota, Floor: k.cfg.Floor,
		Blobs: len(k.kept), Evicted: k.evicted, Pins: len(k.pinned),
	}
	for digest := range k.pinned {
		if k.kept[digest] != nil {
			u.PinsHere++
		}
	}
	u.PinsOver = u.Pinned >= percent(u.Quota, highPercent)
	return u
}

func (k *Keeper) pinnedBytes() (n int64) {
	for digest := range k.pinned {
		if e := k.kept[digest]; e != nil {
			n += e.size
		}
	}
	return n
}
