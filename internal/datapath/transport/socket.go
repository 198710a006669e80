package transport

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	// readAhead is how much is read at once for who has room for as much, in bytes.
	// TLS asks for one, and a call of the kernel for each costs as much as to decrypt it.
	readAhead = 128 << 10
	// largestRecord is how much of TLS is one record for sure, in bytes: RFC 5246, 6.2.3.
	largestRecord = 5 + 16<<10 + 2<<10
)

// errNothing is for crypto/tls an error after which it can go on.
var errNothing error = context.DeadlineExceeded

// socket is what a connection stands on. While that waits, nobody waits for its Read, nor for
// its Write: TLS answers a server by itself, which may take nothing.
type socket struct {
	net.Conn

	sys   syscall.RawConn
	waits atomic.Bool

	// What was read ahead, and what of it is still to be taken.
	ahead *[readAhead]byte
	rest  []byte
}

func newSocket(conn net.Conn) *socket {
	s := &socket{Conn: conn}
	if of, ok := conn.(syscall.Conn); ok {
		s.sys, _ = of.SyscallConn() // it fails with what comes next
	}
	return s
}

func (s *socket) Read(p []byte) (n int, err error) {
	switch {
	case s.ahead != nil:
		return s.readRest(p)
	case !s.waits.Load():
		return s.Conn.Read(p)
	}
	if s.sys == nil {
		return 0, errNothing // it is believed
	}
	failed := s.sys.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return true
	})
	switch {
	case failed != nil:
		return 0, failed
	case errors.Is(err, syscall.EAGAIN):
		return 0, errNothing
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

func (s *socket) Write(p []byte) (n int, err error) {
	if !s.waits.Load() {
		return s.Conn.Write(p)
	}
	if s.sys == nil {
		return 0, errNothing
	}
	failed := s.sys.Write(func(fd uintptr) bool {
		n, err = syscall.Write(int(fd), p)
		return true
	})
	if n = max(n, 0); failed == nil && err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, cmp.Or(failed, err)
}

// readAhead has all Reads from now on take what was read at once, in a buffer of the pool.
func (s *socket) readAhead(pool *sync.Pool) {
	if s.ahead != nil {
		return
	}
	var ok bool
	if s.ahead, ok = pool.Get().(*[readAhead]byte); !ok {
		s.ahead = new([readAhead]byte)
	}
}

// readNothingAhead is the end of that. It is false when there is something that nobody took:
// a connection on which something came between two answers is not used again.
func (s *socket) readNothingAhead(pool *sync.Pool) bool {
	if len(s.rest) > 0 {
		return false
	}
	if s.ahead != nil {
		pool.Put(s.ahead)
		s.ahead, s.rest = nil, nil
	}
	return true
}

func (s *socket) readRest(p []byte) (int, error) {
	if len(s.rest) == 0 {
		n, err := s.Conn.Read(s.ahead[:])
		if s.rest = s.ahead[:n]; n == 0 {
			return 0, err
		}
		// An error comes again with the next Read.
	}
	n := copy(p, s.rest[:min(len(s.rest), largestRecord)]) // what TLS holds itself, records does not see
	s.rest = s.rest[n:]
	return n, nil
}

// records reads from TLS as many records as fit and are there. It waits for the first only, and
// where records without data came between, which no honest server sends many of.
type records struct {
	io.Reader

	below *socket
	pool  *sync.Pool
}

func (r records) Read(p []byte) (n int, err error) {
	if len(p) >= readAhead {
		r.below.readAhead(r.pool)
	}
	for {
		var more int
		more, err = r.Reader.Read(p[n:])
		if n += more; err != nil || n == len(p) || len(r.below.rest) < largestRecord {
			return n, err
		}
	}
}
