package space

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// Tick is a minute of running. What nobody used for long goes, and what other programs
// need of the disk.
func (k *Keeper) Tick() error {
	_, free, err := k.cfg.Free()
	if err != nil {
		err = fmt.Errorf("ask the file system what is free: %w", err)
		free = math.MaxInt64 // by the quota alone
	}
	return errors.Join(err, k.remove(k.due(free)))
}

// due is what goes with a new tick.
func (k *Keeper) due(free int64) (victims []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now++
	for digest, e := range k.kept {
		if k.cfg.Idle > 0 && k.now-e.used > k.cfg.Idle && k.mayGo(digest, e) {
			victims = append(victims, digest)
		}
	}
	k.leave(victims)
	_, want := k.lacking(0, free)
	return append(victims, k.pick(want)...)
}

func (k *Keeper) mayGo(digest string, e *entry) bool {
	return !k.pinned[digest] && !e.leaving && e.stuck <= k.now
}

// removable is how much could go.
func (k *Keeper) removable() (n int64) {
	for digest, e := range k.kept {
		if e.leaving || k.mayGo(digest, e) {
			n += e.size
		}
	}
	return n
}

// candidate is what may go.
type candidate struct {
	digest string
	second bool
	*entry
}

// pick chooses what goes so that so many bytes do, beside what is on its way out: copies
// that another store is there for first, then what was not used for longest.
func (k *Keeper) pick(want int64) (victims []string) {
	if want -= k.bytes.leaving; want <= 0 {
		return nil
	}
	var all []candidate
	for digest, e := range k.kept {
		if k.mayGo(digest, e) {
			all = append(all, candidate{digest, k.cfg.Second != nil && k.cfg.Second(digest), e})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		switch {
		case a.second && !b.second:
			return -1
		case b.second && !a.second:
			return 1
		}
		return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.digest, b.digest))
	})
	for _, c := range all {
		if want <= 0 {
			break
		}
		victims = append(victims, c.digest)
		want -= c.size
	}
	k.leave(victims)
	return victims
}

func (k *Keeper) leave(victims []string) {
	for _, digest := range victims {
		e := k.kept[digest]
		e.leaving = true
		k.bytes.leaving += e.size
	}
}

// remove takes victims from the disk. The lock is not held meanwhile: it may take long, and
// whoever reads a blob must not wait for it.
func (k *Keeper) remove(victims []string) error {
	var failed error
	for _, digest := range victims {
		err := k.cfg.Remove(digest)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		k.left(digest, err == nil)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("evict %s: %w", digest, err))
		}
	}
	return failed
}

func (k *Keeper) left(digest string, gone bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.kept[digest]
	e.leaving = false
	k.bytes.leaving -= e.size
	if gone {
		k.drop(digest, e)
		k.evicted.Blobs++
		k.evicted.Bytes += e.size
	} else {
		e.stuck = k.now + 1
	}
	k.changed.Broadcast()
}
