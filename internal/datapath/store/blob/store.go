package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

const (
	chunk    = 64 << 10 // of a read that is hashed
	together = 2        // commits: more of them only make each other, and etcd, wait longer
)

// Options are what a Store is told.
type Options struct {
	// Boot names the run of the machine's kernel: disk.BootID. Partials of another one are
	// dropped: what was not synced of them is gone, and nothing tells what.
	Boot string
	Log  *slog.Logger
}

// Store has a folder of blobs. All methods may be called at once.
type Store struct {
	fsys    disk.FS
	lock    io.Closer
	boot    string
	log     *slog.Logger
	trashed atomic.Int64 // how many names in the trash were used
	chunks  sync.Pool    // *[]byte
	commits chan struct{}
	moving  sync.Mutex // held while names under blobs/ change

	mu       sync.RWMutex
	blobs    map[string]whole
	turns    uint64 // how many became whole
	partials map[string]*left
}

// whole is a blob on disk. The turn tells it from one that was there before it.
type whole struct {
	size int64
	turn uint64
}

// left is a partial on disk. While somebody has it, what is there of it is in the Partial.
type left struct {
	size  int64
	have  spans
	taken bool
}

// Open takes a folder, or makes it one: it removes what a process before it left half done.
// It fails with disk.ErrInUse while another process has it.
func Open(ctx context.Context, fsys disk.FS, o Options) (*Store, error) {
	lock, err := fsys.Lock("lock")
	if err != nil {
		return nil, fmt.Errorf("taking the store's folder: %w", err)
	}
	s := &Store{
		fsys: fsys, lock: lock, boot: o.Boot, log: o.Log,
		chunks:  sync.Pool{New: func() any { return new(make([]byte, chunk)) }},
		commits: make(chan struct{}, together),
		blobs:   map[string]whole{}, partials: map[string]*left{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	err = s.prepare()
	for _, step := range []func(context.Context) error{s.emptyTrash, s.findBlobs, s.findPartials} {
		if err == nil {
			err = step(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store: %w", err), lock.Close())
	}
	return s, nil
}

// Close gives the folder to the next process. All partials are closed before.
func (s *Store) Close() error { return s.lock.Close() }

// Blobs are all that are whole, in no order.
func (s *Store) Blobs() []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]Info, 0, len(s.blobs))
	for digest, w := range s.blobs {
		all = append(all, Info{digest, w.size})
	}
	return all
}

// Space is what each whole blob takes on disk, and what is left of each partial, before anything
// more comes.
func (s *Store) Space() []Info {
	all := s.Blobs()
	s.mu.RLock()
	defer s.mu.RUnlock()
	for digest, p := range s.partials {
		there := int64(0)
		for _, span := range p.have {
			there += span.To - span.From
		}
		all = append(all, Info{digest, there})
	}
	return all
}

// Partials are the ones that are on disk, in no order.
func (s *Store) Partials() []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]Info, 0, len(s.partials))
	for digest, p := range s.partials {
		all = append(all, Info{digest, p.size})
	}
	return all
}

// Stat answers from memory.
func (s *Store) Stat(digest string) (Info, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	w, ok := s.blobs[digest]
	return Info{digest, w.size}, ok
}

// Kept is the size of the partial that an earlier one left, from memory: Begin with that
// size goes on with it.
func (s *Store) Kept(digest string) (size int64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.partials[digest]
	if !ok || p.taken {
		return 0, false
	}
	return p.size, true
}

// Remove takes a blob out, a whole one or the partial of one that nobody has begun; who
// reads it reads on. There being neither is no error.
func (s *Store) Remove(digest string) error {
	if size, ok := s.Kept(digest); ok {
		p, err := s.Begin(digest, size)
		if errors.Is(err, fs.ErrExist) {
			return nil // somebody was faster, and goes on with it
		}
		if err != nil {
			return err
		}
		return errors.Join(p.Discard(), p.Close())
	}
	return s.remove(digest, 0)
}

// RemoveDamaged takes out the whole blob that an error with ErrDamaged is of, but no other one
// that has come in its place since.
func (s *Store) RemoveDamaged(why error) error {
	var of *damagedError
	if !errors.As(why, &of) || of.turn == 0 {
		return nil
	}
	return s.remove(of.digest, of.turn)
}

// remove takes out a whole blob, of that turn if it is not 0.
func (s *Store) remove(digest string, turn uint64) error {
	trash, err := s.take(digest, turn)
	if err != nil {
		return fmt.Errorf("taking %s out of the store: %w", digest, err)
	}
	if trash == "" {
		return nil
	}
	if err := s.fsys.Remove(trash); err != nil {
		return fmt.Errorf("removing %s, which was taken out of the store: %w", digest, err)
	}
	return nil
}

// take moves a whole blob to the trash, if there is one. One that comes meanwhile is named after it.
func (s *Store) take(digest string, turn uint64) (trash string, err error) {
	s.moving.Lock()
	defer s.moving.Unlock()
	w, ok := s.look(digest)
	if !ok || turn != 0 && turn != w.turn {
		return "", nil
	}
	s.forget(digest)
	trash = s.trashName()
	if err := s.fsys.Rename(blobName(digest), trash); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // somebody removed the file by hand
			return "", nil
		}
		s.index(digest, w.size)
		return "", err
	}
	return trash, nil
}

func (s *Store) look(digest string) (whole, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	w, ok := s.blobs[digest]
	return w, ok
}

// index has a blob found from now on, and is its turn.
func (s *Store) index(digest string, size int64) (turn uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns++
	s.blobs[digest] = whole{size, s.turns}
	return s.turns
}

func (s *Store) forget(digest string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.blobs, digest)
}
