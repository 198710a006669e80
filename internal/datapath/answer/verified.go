package answer

import (
	"bufio"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"net/http/httputil"
	"strings"
)

// verifiedBody hashes a whole blob beside its way to the client, and keeps the end back
// until the digest is right: else the client would have a complete body of wrong bytes,
// and containerd would ask nobody else. What was sent before is wrong too, so that the
// body breaks off. Where there is one upstream the client's own check does as well.
type verifiedBody struct {
	body   io.ReadCloser
	left   int64         // bytes that are still to come; below 0 when nobody says how many
	ahead  *bufio.Reader // reads the body where nobody says how long it is
	digest string
	hash   *hasher
	wrong  func() error
	end    error // after it nothing is read
}

// Verified is a body of size bytes, -1 if that is not known, which ends as a whole one only
// if it has the digest, and otherwise with the error of wrong. Buffers of the pool are what
// it keeps in memory.
func Verified(body io.ReadCloser, size int64, digest string, pool httputil.BufferPool, wrong func() error) io.ReadCloser {
	b := &verifiedBody{body: body, left: size, digest: digest, hash: newHasher(digest, pool), wrong: wrong}
	if size < 0 {
		b.ahead = bufio.NewReaderSize(body, SmallBlob)
	}
	return b
}

func (b *verifiedBody) Read(p []byte) (int, error) {
	if b.end != nil || len(p) == 0 {
		return 0, b.end
	}
	n, err := b.readOn(p)
	b.hash.write(p[:n])
	if errors.Is(err, io.EOF) && b.hash.sum() != b.digest {
		n, err = 0, b.wrong()
	}
	b.end = err
	return n, err
}

// readOn says with the last bytes that they are the last. Where nobody says how long the
// body is, only its end tells, and one byte waits for what follows it.
func (b *verifiedBody) readOn(p []byte) (n int, err error) {
	if b.ahead == nil {
		n, err = b.body.Read(p)
		if b.left -= int64(n); err == nil && b.left <= 0 {
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

// Close ends the hashing too.
func (b *verifiedBody) Close() error {
	b.hash.stop()
	return b.body.Close()
}

// ringSize is how many buffers wait for the hash. It bounds the memory of a body: a
// hash that is slower than the copy slows the copy down.
const ringSize = 3

// hasher hashes in a goroutine of its own what is written to it.
type hasher struct {
	pool    httputil.BufferPool
	filling []byte // the buffer that is not full yet, up to its length
	full    chan []byte
	result  chan string
	stopped bool
}

func newHasher(digest string, pool httputil.BufferPool) *hasher {
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
