package shelf

import (
	"crypto/sha256"
	"runtime"
	"sync"
	"weak"
)

// ID says of two values whether they are equal.
type ID [sha256.Size]byte

// Shelf has one copy of each value that somebody holds, and none that nobody does. The
// zero Shelf is empty.
type Shelf[T any] struct {
	mu   sync.Mutex
	kept map[ID]weak.Pointer[T]
}

// Keep returns the copy that others with this ID hold. If there is none it is the
// value itself.
func (s *Shelf[T]) Keep(id ID, value *T) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept := s.kept[id].Value(); kept != nil {
		return kept
	}
	if s.kept == nil {
		s.kept = map[ID]weak.Pointer[T]{}
	}
	pointer := weak.Make(value)
	s.kept[id] = pointer
	runtime.AddCleanup(value, func(id ID) { s.forget(id, pointer) }, id)
	return value
}

// Len is how many values there are.
func (s *Shelf[T]) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

func (s *Shelf[T]) forget(id ID, pointer weak.Pointer[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept[id] == pointer { // else an equal value has come meanwhile
		delete(s.kept, id)
	}
}
