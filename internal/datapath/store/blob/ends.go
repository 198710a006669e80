package blob

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// behind is how many times as many bytes as were written may be hashed by who wrote them: so
// what came in pieces is hashed soon after, and not only at the end.
const behind = 4

// hashAlong goes on with the hash, if nobody else does: with bytes that were just written,
// and with some that were behind a gap.
func (p *Partial) hashAlong(b []byte, at int64) {
	h := &p.hashing
	if !h.TryLock() {
		return
	}
	defer h.Unlock()
	if h.upTo == at {
		_, _ = h.sum.Write(b) // a hash never fails
		h.upTo += int64(len(b))
	}
	_ = p.hashOn(h.upTo + behind*int64(len(b))) // Verify meets the error again
}

// hashOn reads what is there up to a place again. The caller has the lock of the hash.
func (p *Partial) hashOn(most int64) error {
	h := &p.hashing
	to := min(p.Covered(h.upTo), most)
	if h.upTo >= to {
		return nil
	}
	buffer := p.store.chunks.Get().(*[]byte)
	defer p.store.chunks.Put(buffer)
	for h.upTo < to {
		n, err := p.ReadAt((*buffer)[:min(int64(len(*buffer)), to-h.upTo)], h.upTo)
		_, _ = h.sum.Write((*buffer)[:n]) // a hash never fails
		h.upTo += int64(n)
		if err != nil && h.upTo < to {
			return err
		}
	}
	return nil
}

// Verify says whether all bytes are there, and are the digest's: ErrDigest when they are not.
// It hashes what was not hashed while it came; others read meanwhile.
func (p *Partial) Verify() error {
	if gap, ok := p.Missing(0); ok {
		return fmt.Errorf("verifying %s: bytes %d to %d: %w", p.info.Digest, gap.From, gap.To, ErrMissing)
	}
	h := &p.hashing
	h.Lock()
	defer h.Unlock()
	if err := p.hashOn(p.info.Size); err != nil {
		return fmt.Errorf("verifying %s: %w", p.info.Digest, err)
	}
	if h.done = HasDigest(h.sum, p.info.Digest); !h.done {
		return fmt.Errorf("verifying %s: %w", p.info.Digest, ErrDigest)
	}
	return nil
}

func (p *Partial) verified() bool {
	p.hashing.Lock()
	defer p.hashing.Unlock()
	return p.hashing.done
}

// Keep makes what is there now survive kill -9, with its spans. It does not wait for the
// disk: after a power cut nothing of it is used.
func (p *Partial) Keep() error {
	p.noting.Lock()
	defer p.noting.Unlock()
	p.mu.Lock()
	err, ended := p.err, p.end != coming
	m := meta{Digest: p.info.Digest, Size: p.info.Size, Boot: p.store.boot, Spans: slices.Clone(p.have)}
	p.mu.Unlock()
	if err != nil || ended {
		return err
	}
	data, err := json.Marshal(m)
	if err == nil {
		err = disk.Swap(p.store.fsys, metaName(p.info.Digest), data)
	}
	if err != nil {
		return fmt.Errorf("noting what is there of %s: %w", p.info.Digest, err)
	}
	return nil
}

// Commit makes it whole, after Verify: on return it survives a power cut, and Store.Open has
// it. When it fails the bytes can still be read.
func (p *Partial) Commit() error {
	s := p.store
	s.commits <- struct{}{}
	defer func() { <-s.commits }()
	p.noting.Lock()
	defer p.noting.Unlock()
	if !p.verified() {
		return fmt.Errorf("committing %s: it is not verified", p.info.Digest)
	}
	if err := p.finish(committed); err != nil {
		return fmt.Errorf("committing %s: %w", p.info.Digest, err)
	}
	if err := p.commit(); err != nil {
		p.mu.Lock()
		p.end = coming
		p.mu.Unlock()
		return fmt.Errorf("committing %s: %w", p.info.Digest, err)
	}
	if err := s.fsys.Remove(metaName(p.info.Digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("a note on a blob that is whole stays until the next start", "digest", p.info.Digest, "error", err)
	}
	turn := s.index(p.info.Digest, p.info.Size)
	p.mu.Lock()
	p.turn = turn
	p.mu.Unlock()
	s.release(p.info.Digest)
	return nil
}

// commit is the order that a power cut asks for: bytes before their name, and the name
// before anybody hears of it.
func (p *Partial) commit() error {
	s, name := p.store, blobName(p.info.Digest)
	if err := p.file.Sync(); err != nil {
		return p.spoil(err)
	}
	if err := p.file.Seal(); err != nil {
		return err
	}
	s.moving.Lock()
	err := s.fsys.Rename(partialName(p.info.Digest), name)
	s.moving.Unlock()
	if err != nil {
		return err
	}
	if err = errors.Join(s.fsys.SyncDir(folderOf(p.info.Digest)), s.fsys.SyncDir(partialFolder)); err != nil {
		// The bytes are right, but nobody knows whether the name stays.
		return p.spoil(errors.Join(err, s.fsys.Remove(name)))
	}
	return nil
}

// finish says what becomes of a partial, once.
func (p *Partial) finish(as end) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end != coming {
		return errors.New("it has ended")
	}
	if as == committed && p.err != nil {
		return p.err
	}
	p.end = as
	p.settled.Broadcast()
	return nil
}

// spoil is for a partial whose bytes on disk nobody knows any more: they can be read, and no
// process uses them after this one.
func (p *Partial) spoil(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	return err
}

// Discard removes it; who reads it reads on.
func (p *Partial) Discard() error {
	p.noting.Lock()
	defer p.noting.Unlock()
	if err := p.finish(discarded); err != nil {
		return fmt.Errorf("discarding %s: %w", p.info.Digest, err)
	}
	defer p.store.release(p.info.Digest)
	var failed error
	for _, name := range []string{metaName(p.info.Digest), partialName(p.info.Digest)} { // in this order: see create
		if err := p.store.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return fmt.Errorf("discarding %s: %w", p.info.Digest, failed)
	}
	return nil
}

// Close lets go of it. One that neither was committed nor discarded is left for later, as
// by Keep, unless its bytes may be wrong.
func (p *Partial) Close() error {
	p.mu.Lock()
	end, have := p.end, p.have
	p.mu.Unlock()
	var err error
	if end == coming {
		if err = p.Keep(); err == nil {
			p.store.leave(p.info.Digest, have)
		} else {
			err = errors.Join(err, p.Discard())
		}
	}
	return errors.Join(err, p.file.Close())
}
