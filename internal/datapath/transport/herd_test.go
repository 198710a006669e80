package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const clients = 200

var errRefused = errors.New("connection refused")

// dials counts them, and how many there were at a time.
type dials struct{ all, now, most atomic.Int64 }

func (d *dials) dial(took time.Duration, err error) (net.Conn, error) {
	d.all.Add(1)
	d.most.Store(max(d.most.Load(), d.now.Add(1)))
	<-time.After(took)
	d.now.Add(-1)
	if err != nil {
		return nil, err
	}
	return &net.TCPConn{}, nil
}

// all has clients connect at once; it returns how many got each error.
func (h *herd) all(ctx context.Context, dial func() (net.Conn, error)) map[error]int {
	var mu sync.Mutex
	var asked sync.WaitGroup
	got := map[error]int{}
	for range clients {
		asked.Go(func() {
			_, err := h.connect(ctx, "a", dial)
			mu.Lock()
			defer mu.Unlock()
			got[err]++
		})
	}
	asked.Wait()
	return got
}

// TestADeadServerIsDialledByOne while 200 ask for it, and all know what that one does.
// When it is back they come bit by bit; when it works they do not wait for each other.
func TestADeadServerIsDialledByOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, dead, back, well, dies := &herd{}, &dials{}, &dials{}, &dials{}, &dials{}
		for range 3 {
			began := time.Now()
			got := h.all(t.Context(), func() (net.Conn, error) { return dead.dial(5*time.Second, errRefused) })
			if got[errRefused] != clients || time.Since(began) != 5*time.Second {
				t.Errorf("dead: %v after %v", got, time.Since(began))
			}
		}
		if dead.all.Load() != 3 {
			t.Errorf("%d dials for 3 times %d clients", dead.all.Load(), clients)
		}
		got := h.all(t.Context(), func() (net.Conn, error) { return back.dial(time.Second, nil) })
		if got[nil] != clients || back.most.Load() > clients*3/4 {
			t.Errorf("back: %v, %d at a time", got, back.most.Load())
		}
		began := time.Now()
		got = h.all(t.Context(), func() (net.Conn, error) { return well.dial(time.Second, nil) })
		if got[nil] != clients || time.Since(began) != time.Second {
			t.Errorf("well: %v after %v", got, time.Since(began))
		}
		// Who is on the way already finds out by itself, nobody after that.
		h.all(t.Context(), func() (net.Conn, error) { return dies.dial(time.Second, errRefused) })
		h.all(t.Context(), func() (net.Conn, error) { return dies.dial(time.Second, errRefused) })
		if dies.all.Load() != clients+1 {
			t.Errorf("dies: %d dials", dies.all.Load())
		}
	})
}

// TestWhoWaitsIsNotHeld: a client that goes ends its own wait, and nobody else's.
func TestWhoWaitsIsNotHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, made := &herd{}, &dials{}
		first, goes := context.WithCancelCause(t.Context())
		go func() {
			_, _ = h.connect(first, "a", func() (net.Conn, error) { <-first.Done(); return nil, first.Err() })
		}()
		synctest.Wait()
		waits, ends := context.WithTimeout(t.Context(), time.Second)
		defer ends()
		if _, err := h.connect(waits, "a", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits: %v", err)
		}
		if _, err := h.connect(t.Context(), "b", func() (net.Conn, error) { return made.dial(0, nil) }); err != nil {
			t.Errorf("another server: %v", err)
		}
		go func() { goes(errRefused) }()
		if got := h.all(t.Context(), func() (net.Conn, error) { return made.dial(time.Second, nil) }); got[nil] != clients {
			t.Errorf("the client of the dial went: %v", got)
		}
	})
}

// TestOneOfManyFails: where others get through, a failure is that of one request.
func TestOneOfManyFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, made := &herd{}, &dials{}
		_ = h.all(t.Context(), func() (net.Conn, error) { return made.dial(time.Second, nil) })
		began := time.Now()
		var first atomic.Bool
		got := h.all(t.Context(), func() (net.Conn, error) {
			if first.CompareAndSwap(false, true) {
				return made.dial(5*time.Second, errRefused)
			}
			return made.dial(time.Second, nil)
		})
		if got[nil] != clients-1 || got[errRefused] != 1 {
			t.Error(got)
		}
		if got = h.all(t.Context(), func() (net.Conn, error) { return made.dial(time.Second, nil) }); got[nil] != clients || time.Since(began) != 6*time.Second {
			t.Errorf("then %v after %v", got, time.Since(began))
		}
	})
}

// late is a context whose limit has come, and that does not know it yet.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now(), true }

// TestALimitOfOneIsNoError of the server: those who wait try it themselves.
func TestALimitOfOneIsNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, made := &herd{}, &dials{}
		go func() {
			_, _ = h.connect(late{t.Context()}, "a", func() (net.Conn, error) { return made.dial(time.Second, errRefused) })
		}()
		synctest.Wait()
		if got := h.all(t.Context(), func() (net.Conn, error) { return made.dial(time.Second, nil) }); got[nil] != clients {
			t.Errorf("%v", got)
		}
	})
}

// TestServersThatAreRememberedAreBounded.
func TestServersThatAreRememberedAreBounded(t *testing.T) {
	t.Parallel()
	h := &herd{}
	for i := range 10 * maxServers {
		address := net.JoinHostPort("a", http.StatusText(i)+string(rune('a'+i%26))+time.Duration(i).String())
		if _, err := h.connect(t.Context(), address, func() (net.Conn, error) { return nil, errRefused }); !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
	}
	if len(h.servers) > maxServers {
		t.Errorf("%d are remembered", len(h.servers))
	}
}

// TestOneHandshakeForAll: 200 clients of a registry whose certificate nobody vouches for,
// through all that is between them and the socket.
func TestOneHandshakeForAll(t *testing.T) {
	t.Parallel()
	var made atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			made.Add(1)
		}
	}
	u := secureUpstream(t, server)
	server.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		<-time.After(time.Second) // all of them have come
		return nil, nil           //nolint:nilnil // go on with what there is
	}
	u.CA = ""
	tr, err := New(u)
	if err != nil {
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	for range clients {
		asked.Go(func() {
			var untrusted *tls.CertificateVerificationError
			if err := tr.Ping(t.Context()); !errors.As(err, &untrusted) {
				t.Error(err)
			}
		})
	}
	asked.Wait()
	t.Logf("%d connections for %d clients", made.Load(), clients)
	if made.Load() > clients/10 {
		t.Errorf("%d connections for %d clients", made.Load(), clients)
	}
}
