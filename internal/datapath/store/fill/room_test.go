package fill

import (
	"bytes"
	"errors"
	"sync"
	"testing"
)

// room counts what is reserved.
type room struct {
	mu     sync.Mutex
	coming map[string]int64
	kept   map[string]bool
	full   bool
	taken  int64
	most   int64 // that may be taken; 0 is all
}

func (m *room) reserve(digest string, size int64) (func(int) error, func(bool), error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return nil, nil, errors.New("no room")
	}
	if _, twice := m.coming[digest]; twice {
		panic("reserved twice: " + digest)
	}
	m.coming[digest] = size
	return m.take, func(kept bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if _, ok := m.coming[digest]; !ok {
			panic("given back twice: " + digest)
		}
		delete(m.coming, digest)
		m.kept[digest] = kept
	}, nil
}

func (m *room) take(n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.taken += int64(n); m.most > 0 && m.taken > m.most {
		return errors.New("no room any more")
	}
	return nil
}

// TestNoRoomAnyMore: what is promised is not always there when bytes come. Then nothing more is
// written, and it is as with a full disk.
func TestNoRoomAnyMore(t *testing.T) {
	t.Parallel()
	b, s := newBench(t), newScript(t, large)
	b.room.most = 500_000
	got, err := b.read(t.Context(), s, 0, -1)
	if !errors.Is(err, ErrNoStore) || len(got) > 500_000 || !bytes.Equal(got, s.data[:len(got)]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	b.settled()
	if _, ok := b.blobs.Kept(s.digest); ok || b.room.kept[s.digest] {
		t.Error("it is kept, and there is no room")
	}
	b.room.most = 0
	b.whole(s)
	b.settled()
	if b.room.taken < large {
		t.Errorf("%d bytes were counted", b.room.taken)
	}
}
