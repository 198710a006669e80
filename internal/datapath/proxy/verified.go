package proxy

import (
	"bufio"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/d8-registry/registry/internal/datapath/judge"
)

// verifiedBody hashes a whole blob beside its way to the client, and keeps the end back
// until the digest is right: else the client would have a complete body of wrong bytes,
// and containerd would ask nobody else. What was sent before is wrong too, so that the
// body breaks off, and this upstream is not asked for the digest for a while. Where there
// is one upstream the client's own check does as well.
type verifiedBody struct {
	*resumedBody
	ahead  *bufio.Reader // reads the body where nobody says how long it is
	digest string
	hash   *hasher
	end    error // after it nothing is read
}

func verified(body *resumedBody, digest string, pool *buffers) *verifiedBody {
	b := &verifiedBody{resumedBody: body, digest: digest, hash: newHasher(digest, pool)}
	if body.part.End < 0 {
		b.ahead = bufio.NewReaderSize(body, smallBlob)
	}
	return b
}

func (b *verifiedBody) Read(p []byte) (int, error) {
	if b.end != nil || len(p) == 0 {
		return 0, b.end
	}
	n, err := b.readOn(p)
	b.hash.write(p[:n])
	if errors.Is(err, io.EOF) {
		if err = b.verify(); !errors.Is(err, io.EOF) {
			n = 0
		}
	}
	b.end = err
	return n, err
}

// readOn says with the last bytes that they are the last. Where nobody says how long the
// body is, only its end tells, and one byte waits for what follows it.
func (b *verifiedBody) readOn(p []byte) (n int, err error) {
	if b.ahead == nil {
		n, err = b.resumedBody.Read(p)
		if err == nil && b.complete() {
			err = io.EOF
		}
		return n, err
	}
	_, err = b.ahead.Peek(2)
	ready := b.ahead.Buffered()
	if err == nil {
		ready--
	}
	if ready > 0 {
		n, _ = b.ahead.Read(p[:min(len(p), ready)])
	}
	return n, err
}

// verify is io.EOF if the body is what it should be.
func (b *verifiedBody) verify() error {
	if b.hash.sum() == b.digest {
		return io.EOF
	}
	from := b.exchange.served
	who := from.upstream.Host
	if b.mixed { // whose bytes are wrong is not known, and it may be the only one that has them
		who = "several upstreams, at last " + who
	} else {
		from.corrupt.note(time.Now(), b.digest)
		b.next.note(from, judge.WrongDigest, "gave other bytes than their digest says")
	}
	err := fmt.Errorf("%s: the bytes of %s have another digest", who, b.digest)
	b.exchange.record.err = err
	return err
}

// Close ends the hashing too.
func (b *verifiedBody) Close() error {
	b.hash.stop()
	return b.resumedBody.Close()
}

// ringSize is how many buffers wait for the hash. It bounds the memory of a body: a
// hash that is slower than the copy slows the copy down.
const ringSize = 3

// hasher hashes in a goroutine of its own what is written to it.
type hasher struct {
	pool    *buffers
	filling []byte // the buffer that is not full yet, up to its length
	full    chan []byte
	result  chan string
	stopped bool
}

func newHasher(digest string, pool *buffers) *hasher {
	h := &hasher{pool: pool, full: make(chan []byte, ringSize), result: make(chan string, 1)}
	name, sum := "sha256:", sha256.New()
	if strings.HasPrefix(digest, "sha512:") {
		name, sum = "sha512:", sha512.New()
	}
	go func() {
		for data := range h.full {
			_, _ = sum.Write(data) // a hash never fails
			pool.Put(data[:cap(data)])
		}
		h.result <- name + hex.EncodeToString(sum.Sum(nil))
	}()
	return h
}

func (h *hasher) write(p []byte) {
	for len(p) > 0 {
		if h.filling == nil {
			h.filling = h.pool.Get()[:0]
		}
		n := min(len(p), cap(h.filling)-len(h.filling))
		h.filling = append(h.filling, p[:n]...)
		if p = p[n:]; len(h.filling) == cap(h.filling) {
			h.full <- h.filling
			h.filling = nil
		}
	}
}

// sum waits for the digest of all that was written.
func (h *hasher) sum() string {
	h.stop()
	return <-h.result
}

// stop ends the goroutine when it has done what it was given.
func (h *hasher) stop() {
	if h.stopped {
		return
	}
	h.stopped = true
	if len(h.filling) > 0 {
		h.full <- h.filling
	}
	close(h.full)
}

// corrupt remembers for which digests an upstream gave other bytes.
type corrupt struct {
	mu    sync.Mutex
	until map[string]time.Time
}

const (
	// corruptFor is longer than the pause of kubelet between two tries.
	corruptFor = 10 * time.Minute
	// mostCorrupt bounds what is remembered of one upstream.
	mostCorrupt = 256
)

func (c *corrupt) note(now time.Time, digest string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until == nil || len(c.until) >= mostCorrupt {
		c.until = map[string]time.Time{}
	}
	c.until[digest] = now.Add(corruptFor)
}

func (c *corrupt) has(now time.Time, digest string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, known := c.until[digest]
	if known && !now.Before(until) {
		delete(c.until, digest)
	}
	return known && now.Before(until)
}
