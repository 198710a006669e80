package apiserver

import (
	"slices"
	"sync"
	"testing"
)

// Pool is the API servers of one test package whose tests need a whole cluster
// each: a test has one for itself until it ends, so that such tests run side by
// side. There are as many as tests run at a time. The zero value is ready.
//
//	var servers apiserver.Pool
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }
type Pool struct {
	mu        sync.Mutex
	all, idle []*Server
}

// Main is as that of Server.
func (p *Pool) Main(m *testing.M) int { return run(m, p.stop) }

// Take returns an API server that no other test uses until this one ends. What
// an earlier test left in it is still there.
func (p *Pool) Take(tb testing.TB) *API {
	tb.Helper()
	s := p.take()
	tb.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle = append(p.idle, s)
	})
	return s.Start(tb)
}

// TakeNew returns an API server that nobody used before. It stops when the test
// ends.
func (p *Pool) TakeNew(tb testing.TB) *API {
	tb.Helper()
	s := &Server{}
	p.mu.Lock()
	p.all = append(p.all, s) // for a signal
	p.mu.Unlock()
	tb.Cleanup(s.stop)
	return s.Start(tb)
}

func (p *Pool) take() *Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.idle) - 1; last >= 0 {
		s := p.idle[last]
		p.idle = p.idle[:last]
		return s
	}
	s := &Server{}
	p.all = append(p.all, s)
	return s
}

func (p *Pool) stop() {
	p.mu.Lock()
	all := slices.Clone(p.all)
	p.mu.Unlock()
	for _, s := range all {
		s.stop()
	}
}
