package blob

import (
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// writeBack is after how many bytes the disk is told to begin: a Sync at the end of a large
// blob would hold up everybody on that disk for seconds.
const writeBack = 8 << 20

// Partial is a blob that is coming. All methods may be called at once, but for Commit,
// Discard and Close, which are called when nothing is written any more. Who reads reads on
// through Commit and Discard, until Close, which is the last.
type Partial struct {
	store *Store
	info  Info
	file  disk.File

	hashing hashing
	noting  sync.Mutex // held while its meta, or its name, changes

	mu      sync.Mutex
	settled sync.Cond // a write has ended
	have    spans
	writing []Span // claimed: nobody else writes there
	fresh   int64  // bytes since the disk was told
	end     end
	err     error  // a Sync failed: nobody knows what is on disk
	turn    uint64 // of what it was made; 0 before
}

// end is what became of a partial.
type end int

const (
	coming end = iota
	committed
	discarded
)

// hashing is how far the bytes are hashed, from the first on.
type hashing struct {
	sync.Mutex
	sum  hash.Hash
	upTo int64
	done bool // and they are the digest's
}

// Begin is a partial of a blob of that size: that of a process before, or a new one.
// fs.ErrExist: the blob is whole, or somebody else has its partial.
func (s *Store) Begin(digest string, size int64) (*Partial, error) {
	if err := check(digest); err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, fmt.Errorf("%s cannot have %d bytes", digest, size)
	}
	have, err := s.reserve(digest, size)
	if err != nil {
		return nil, err
	}
	p := &Partial{store: s, info: Info{digest, size}, have: have, hashing: hashing{sum: NewHash(digest)}}
	p.settled.L = &p.mu
	if have != nil {
		p.file, err = s.fsys.Edit(partialName(digest))
		switch {
		case ofTheProcess(err):
			s.leave(digest, have)
			return nil, fmt.Errorf("beginning %s: %w", digest, err)
		case err != nil: // killed in Commit: it is sealed
			p.have = nil
		}
	}
	if p.have == nil {
		p.file, err = s.create(digest)
	}
	if err != nil {
		s.release(digest)
		return nil, fmt.Errorf("beginning %s: %w", digest, err)
	}
	return p, nil
}

// reserve is what is there of a partial, which nobody else gets until it is released.
func (s *Store) reserve(digest string, size int64) (spans, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.blobs[digest]; ok {
		return nil, fmt.Errorf("%s is whole: %w", digest, fs.ErrExist)
	}
	l := s.partials[digest]
	switch {
	case l == nil || !l.taken && l.size != size:
		s.partials[digest] = &left{size: size, taken: true}
		return nil, nil
	case l.taken:
		return nil, fmt.Errorf("%s is coming already: %w", digest, fs.ErrExist)
	}
	l.taken = true
	return l.have, nil
}

// release forgets a partial.
func (s *Store) release(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partials, digest)
}

// leave is for the next one who begins.
func (s *Store) leave(digest string, have spans) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.partials[digest]
	l.have, l.taken = have, false
}

// create makes the file. The meta goes first: it would speak of bytes that are not there.
func (s *Store) create(digest string) (disk.File, error) {
	for _, name := range []string{metaName(digest), partialName(digest)} {
		if err := s.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return s.fsys.Create(partialName(digest))
}

// Size is that of the whole blob, in bytes.
func (p *Partial) Size() int64 { return p.info.Size }

// Covered is where the bytes from a place on end; the place itself if it is missing.
func (p *Partial) Covered(at int64) (to int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have.covered(at)
}

// Missing is the first gap at or after a place; false when there is none.
func (p *Partial) Missing(at int64) (Span, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.have.gap(max(at, 0), p.info.Size)
}

// ReadAt implements io.ReaderAt for the bytes that are there. ErrMissing: no more of them are.
func (p *Partial) ReadAt(b []byte, at int64) (int, error) {
	if at < 0 {
		return 0, fmt.Errorf("reading %s at %d", p.info.Digest, at)
	}
	there := max(p.Covered(at)-at, 0)
	n, err := p.file.ReadAt(b[:min(int64(len(b)), there)], at)
	switch {
	case errors.Is(err, fs.ErrClosed):
		return n, err
	case int64(n) < min(int64(len(b)), there):
		p.mu.Lock()
		defer p.mu.Unlock()
		return n, damaged(p.info.Digest, p.turn, fmt.Errorf("reading it at %d: %w", at+int64(n), err))
	case n == len(b):
		return n, nil
	case at+int64(n) >= p.info.Size:
		return n, io.EOF
	}
	return n, fmt.Errorf("reading %s at %d: %w", p.info.Digest, at+int64(n), ErrMissing)
}

// WriteAt takes bytes to their place. Those that are there already are not written again,
// since somebody may have read them. It waits for others who write the same ones: on return
// all that it counts are there.
func (p *Partial) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || int64(len(b)) > p.info.Size-at {
		return 0, fmt.Errorf("writing %s: %d bytes at %d are not within its %d", p.info.Digest, len(b), at, p.info.Size)
	}
	for from, to := at, at+int64(len(b)); ; {
		mine, err := p.claim(from, to)
		if err != nil || mine.From == mine.To {
			return int(mine.From - at), err
		}
		bytes := b[mine.From-at : mine.To-at]
		if _, err = p.file.WriteAt(bytes, mine.From); err != nil {
			p.settle(mine, false)
			err = fmt.Errorf("writing %s at %d: %w", p.info.Digest, mine.From, err)
			if errors.Is(err, disk.ErrUnwritten) {
				err = p.spoil(err)
			}
			return int(mine.From - at), err
		}
		if p.settle(mine, true) {
			p.file.WriteBack()
		}
		p.hashAlong(bytes, mine.From)
		from = mine.To
	}
}

// claim is the next part that is missing and that nobody writes, from a place on; none, at
// the end, when there is no more.
func (p *Partial) claim(from, to int64) (Span, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.end != coming {
			return Span{from, from}, fmt.Errorf("writing %s: it has ended", p.info.Digest)
		}
		gap, ok := p.have.gap(from, to)
		if !ok {
			return Span{to, to}, nil
		}
		from = gap.From
		mine := Span{from, min(gap.To, to)}
		for _, w := range p.writing {
			switch {
			case w.From <= mine.From && mine.From < w.To:
				mine.To = mine.From
			case mine.From < w.From:
				mine.To = min(mine.To, w.From)
			}
		}
		if mine.From < mine.To {
			p.writing = append(p.writing, mine)
			return mine, nil
		}
		p.settled.Wait()
	}
}

// settle ends a claim, and reports whether the disk is to be told of much that is new.
func (p *Partial) settle(mine Span, there bool) (tell bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.settled.Broadcast()
	i := slices.Index(p.writing, mine)
	p.writing = slices.Delete(p.writing, i, i+1)
	if !there {
		return false
	}
	p.have = p.have.add(mine)
	p.fresh += mine.To - mine.From
	if tell = p.fresh >= writeBack; tell {
		p.fresh = 0
	}
	return tell
}
