package transport

import (
	"context"
	"maps"
	"net"
	"sync"
	"time"
)

const (
	// growth is how many more may dial at a time for each connection that was made: 1, 4,
	// 16, 64, 256.
	growth = 3
	// freely is from when on nobody is held back: more than there are connections of clients.
	freely = 4096
	// maxServers bounds the servers of an upstream of which it is remembered how they do.
	maxServers = 64
)

// herd keeps all clients from dialling a dead server at once. One of which nothing is
// known, or that could not be reached last, is dialled by one request; the others wait for
// what becomes of that, and share its error. Each connection that is made lets more of
// them dial, so that a server that has just come back is not met by all. One that works
// holds nobody back; a request on a kept connection never comes here.
type herd struct {
	mu      sync.Mutex
	servers map[string]*server // by address
}

type server struct {
	may     int // dial at a time
	dialing int
	made    int // connections, ever
	next    *dialled
}

// dialled is what became of the dial that ended first, for those who wait.
type dialled struct {
	known chan struct{} // closed when err is
	err   error         // nil: whoever waits shall try again
}

// connect is dial when it is its turn, or the error of another one's.
func (h *herd) connect(ctx context.Context, address string, dial func() (net.Conn, error)) (net.Conn, error) {
	for {
		s, made, next := h.enter(address)
		if next == nil {
			conn, err := dial()
			limit, limited := ctx.Deadline() // of which a dial may know before the context does
			h.leave(s, made, err, ctx.Err() != nil || limited && !time.Now().Before(limit))
			return conn, err
		}
		select {
		case <-next.known:
			if next.err != nil {
				return nil, next.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// enter is the server if it may be dialled now, with the connections that were made to it
// before, or what to wait for.
func (h *herd) enter(address string) (_ *server, made int, _ *dialled) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.servers[address]
	if s == nil {
		if h.servers == nil {
			h.servers = map[string]*server{}
		}
		if len(h.servers) >= maxServers {
			maps.DeleteFunc(h.servers, func(_ string, s *server) bool { return s.dialing == 0 })
		}
		s = &server{may: 1, next: &dialled{known: make(chan struct{})}}
		h.servers[address] = s
	}
	if s.dialing >= s.may {
		return nil, 0, s.next
	}
	s.dialing++
	return s, s.made, nil
}

// leave tells those who wait. An error is theirs too if the server was doubted before. It
// says nothing if its client has gone, or if others got through meanwhile: then the server
// is slow, or one of several.
func (h *herd) leave(s *server, made int, err error, gone bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.dialing--
	ended := s.next
	s.next = &dialled{known: make(chan struct{})}
	switch {
	case err == nil:
		s.made++
		s.may = min(s.may+growth, freely)
	case !gone && s.made == made:
		if s.may == 1 {
			ended.err = err
		}
		s.may = 1
	}
	close(ended.known)
}
