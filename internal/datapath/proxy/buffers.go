package proxy

import (
	"sync"
	"sync/atomic"
)

const (
	// small is what is copied of a body at once, in bytes: TLS gives half of it at a time.
	small = 32 << 10
	// large is eight records of TLS. What is read into so much room is read ahead below TLS
	// (package transport), and what is more than small goes out together (package inbound):
	// fewer calls of the kernel for each byte.
	large = 128 << 10
	// largeBuffers is how many bodies have a large one, and three times as much with those
	// below TLS. More of them have the processors to share, and memory to spare.
	largeBuffers = 32
)

// buffers are reused between copies of bodies.
type buffers struct {
	out   atomic.Int32 // large ones
	pools [2]sync.Pool // of small and of large ones
}

// Get returns a small one.
func (b *buffers) Get() []byte { return get(&b.pools[0], small) }

// For returns a large one for a body that is larger than a small one, -1 when its length is not
// known, while there may be one more.
func (b *buffers) For(length int64) []byte {
	if length >= 0 && length <= small {
		return b.Get()
	}
	if b.out.Add(1) <= largeBuffers {
		return get(&b.pools[1], large)
	}
	b.out.Add(-1)
	return b.Get()
}

func get(pool *sync.Pool, size int) []byte {
	if p, ok := pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, size)
}

// Put takes back what Get or For returned.
func (b *buffers) Put(p []byte) {
	if len(p) == small {
		b.pools[0].Put(&p)
		return
	}
	b.out.Add(-1)
	b.pools[1].Put(&p)
}
