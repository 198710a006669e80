// Package space says what may be written and what goes: quota, a floor of free space,
// use, pins, and the pace beside an etcd on the same disk.
//
// It counts in bytes and in ticks of running, and never reads a clock of the wall: a
// clock that jumps by ten years evicts nothing. It removes through the function that it
// was given and knows no files. Start at (*Keeper).Reserve, then Guard.
package space

import (
	"cmp"
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
	// step is how much room is made for a blob at a time, in bytes: what goes for it is about what
	// has come of it, since its size may be a lie.
	step = 8 << 20
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

	step int64 // 0 is the default
}

// Keeper knows what is on disk and what is to come, and makes room.
type Keeper struct {
	cfg Config

	mu      sync.Mutex
	changed *sync.Cond // something has left, or has not
	kept    map[string]*entry
	coming  map[string]*arrival
	pinned  map[string]bool
	now     int64  // ticks of running
	turn    uint64 // of use: within a tick too, the order is known
	bytes   struct {
		kept, leaving int64
		// Of what comes: all that was promised, that for which room was made, and what of that is not
		// on disk yet.
		promised, coming, ahead int64
	}
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

// arrival is a blob that comes.
type arrival struct {
	size         int64
	given, taken int64 // for so many bytes room was made, and so many of them were written
}

// Evicted is what was removed so far.
type Evicted struct{ Blobs, Bytes int64 }

// Usage is the state of the moment, in bytes.
type Usage struct {
	Kept, Coming, Pinned, Quota, Floor int64
	Blobs                              int
	Evicted                            Evicted
	// PinsOver says that what is in use alone leaves no room: nothing else is stored.
	PinsOver bool
}

// New is a Keeper of what is on disk: whole blobs, and partials that nobody works at. What
// uses does not know was used just now, so that a list that is lost evicts nothing.
func New(cfg Config, have []blob.Info, uses Uses) *Keeper {
	cfg.step = cmp.Or(cfg.step, step)
	k := &Keeper{cfg: cfg, kept: map[string]*entry{}, coming: map[string]*arrival{}, now: uses.now, turn: uint64(len(uses.of))}
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

// Reserve promises room for a blob that will come, of which a partial may be there. take makes
// it: it is called before so many bytes are written, and others may have to go for them. done is
// called once, when nothing is written any more, with whether anything of it stays on disk. The
// errors are ErrFull: nothing is to be written then.
func (k *Keeper) Reserve(digest string, size int64) (take func(n int) error, done func(kept bool), err error) {
	free, err := k.free(digest)
	if err != nil {
		return nil, nil, err
	}
	a, had, err := k.promise(digest, size, free)
	if err != nil {
		return nil, nil, err
	}
	var once sync.Once
	done = func(kept bool) {
		once.Do(func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.over(digest, a, kept)
		})
	}
	if err := k.grow(digest, a); err != nil {
		done(had)
		return nil, nil, err
	}
	return func(n int) error { return k.take(digest, a, int64(n)) }, done, nil
}

func (k *Keeper) free(digest string) (int64, error) {
	_, free, err := k.cfg.Free()
	if err != nil {
		err = fmt.Errorf("%w for %s: ask the file system what is free: %w", ErrFull, digest, err)
	}
	return free, err
}

// promise is that there will be room, if all that may go does: whoever is given the last of it
// needs all. had is whether a partial is there.
func (k *Keeper) promise(digest string, size, free int64) (a *arrival, had bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.kept[digest] != nil && k.kept[digest].leaving {
		k.changed.Wait() // else its removal would meet the new one
	}
	if k.coming[digest] != nil || size < 0 {
		return nil, false, fmt.Errorf("reserve %d bytes for %s: it is coming already, or has no size", size, digest)
	}
	if size > k.cfg.Quota {
		return nil, false, k.full(digest, size, free)
	}
	a = &arrival{size: size}
	part := k.kept[digest]
	if part != nil { // what is there of it counts as coming from now on
		k.drop(digest, part)
		a.given, a.taken = min(part.size, size), min(part.size, size)
	}
	k.coming[digest] = a
	k.bytes.promised += size
	k.bytes.coming += a.given
	if must, _ := k.lacking(k.bytes.promised-k.bytes.coming, free); must > k.removable() {
		err = k.full(digest, size, free)
		k.over(digest, a, part != nil)
	}
	return a, part != nil, err
}

// take counts what is about to be written, of the room that there is or is made.
func (k *Keeper) take(digest string, a *arrival, n int64) error {
	for !k.taken(a, n) {
		if err := k.grow(digest, a); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) taken(a *arrival, n int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a.given < a.size && a.given-a.taken < n {
		return false
	}
	n = min(n, a.given-a.taken) // some are written twice
	a.taken += n
	k.bytes.ahead -= n
	return true
}

// grow makes room for a step more of a blob.
func (k *Keeper) grow(digest string, a *arrival) error {
	var failed error
	for rounds := 0; rounds < mostRounds; {
		free, err := k.free(digest)
		if err != nil {
			return err
		}
		given, victims, err := k.give(digest, a, free)
		if err != nil {
			return errors.Join(err, failed)
		}
		failed = errors.Join(failed, k.remove(victims))
		if given {
			return nil
		}
		if len(victims) > 0 { // else it has waited for those of others, however many they are
			rounds++
		}
	}
	return errors.Join(fmt.Errorf("%w for %s: what was removed did not free the disk", ErrFull, digest), failed)
}

// give takes the room if it is there; victims are to be removed in any case.
func (k *Keeper) give(digest string, a *arrival, free int64) (given bool, victims []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	more := min(k.cfg.step, a.size-a.given)
	must, want := k.lacking(more, free)
	switch {
	case must <= 0:
		a.given += more
		k.bytes.coming += more
		k.bytes.ahead += more
		return true, k.pick(want), nil
	case must > k.removable():
		return false, nil, k.full(digest, a.size, free)
	case must <= k.bytes.leaving:
		k.changed.Wait() // others make room already
		return false, nil, nil
	}
	return false, k.pick(want), nil
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
	floor := k.cfg.Floor - (free - k.bytes.ahead - more)
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

// over is that nothing more of a blob is written.
func (k *Keeper) over(digest string, a *arrival, kept bool) {
	delete(k.coming, digest)
	k.bytes.promised -= a.size
	k.bytes.coming -= a.given
	k.bytes.ahead -= a.given - a.taken
	if kept {
		k.turn++
		k.kept[digest] = &entry{size: a.given, used: k.now, turn: k.turn}
		k.bytes.kept += a.given
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
		Blobs: len(k.kept), Evicted: k.evicted,
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
