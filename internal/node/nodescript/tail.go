package nodescript

import (
	"strings"
	"sync"
)

// tail keeps the end of what is written to it. Several goroutines may write.
type tail struct {
	most int

	mu   sync.Mutex
	data []byte
}

func newTail(most int) *tail { return &tail{most: most} }

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p[max(0, len(p)-t.most):]...)
	if len(t.data) > 2*t.most {
		t.data = append(t.data[:0], t.data[len(t.data)-t.most:]...)
	}
	return len(p), nil
}

func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]byte(nil), t.data[max(0, len(t.data)-t.most):]...)
}

// text is the end as text, without parts of characters.
func (t *tail) text() string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(string(t.bytes()), ""), "\x00", ""))
}
