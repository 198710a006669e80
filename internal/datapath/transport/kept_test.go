package transport

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// echo answers each request with its path, in a body of a few KiB.
func echo(*scripted) func(*http.Request, net.Conn) bool {
	return func(req *http.Request, c net.Conn) bool {
		_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%-6000s", 6000, req.URL.Path)
		return err != nil
	}
}

// TestEachGetsItsOwnAnswer: clients that go at any moment leave nothing to the next ones.
func TestEachGetsItsOwnAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, true, echo)
	client := transportTo(t, s).base
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 40 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(4*time.Millisecond))))
				if n%2 == 0 {
					cancel()
					ctx, cancel = context.WithCancel(t.Context())
				}
				path := fmt.Sprintf("/%d/%d", i, n)
				if got, err := get(client, request(ctx, t, s, path), n%5 == 4); err == nil && got != fmt.Sprintf("%-6000s", path) {
					t.Errorf("%s: %.20q", path, got)
				} else if err != nil && n%2 == 0 {
					t.Errorf("%s: %v", path, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
}

// get reads the body, or goes in its middle.
func get(client http.RoundTripper, req *http.Request, goes bool) (string, error) {
	resp, err := client.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if goes {
		_, err := io.ReadFull(resp.Body, make([]byte, 100))
		return fmt.Sprintf("%-6000s", req.URL.Path), err
	}
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// held are the bodies of n answers at a time, which nobody has read yet.
func held(t *testing.T, client http.RoundTripper, s *scripted, n int) []io.Reader {
	t.Helper()
	var all []io.Reader
	for range n {
		resp, err := client.RoundTrip(request(t.Context(), t, s, "/"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		all = append(all, resp.Body)
	}
	return all
}

func readAll(t *testing.T, all []io.Reader) {
	t.Helper()
	for _, body := range all {
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Error(err)
		}
	}
}

// until waits for what the server sees a moment later.
func until(t *testing.T, s *scripted, open int, when string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for s.stillOpen() != open {
		select {
		case <-deadline:
			t.Fatalf("%s: %d connections are open, want %d", when, s.stillOpen(), open)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestConnectionsThatWait are bounded, and end: when they have waited for long, when their
// server ended them, and when the upstream is not used any more.
func TestConnectionsThatWait(t *testing.T) {
	t.Parallel()
	s := serve(t, false, echo)
	tr := transportTo(t, s)
	readAll(t, held(t, tr.base, s, maxIdle+3))
	until(t, s, maxIdle, "more than may wait")

	kept := &tr.base.kept
	kept.mu.Lock()
	for _, w := range kept.waiting[:maxIdle-2] {
		w.since = w.since.Add(-idleTimeout)
	}
	kept.mu.Unlock()
	kept.sweep()
	until(t, s, 2, "most have waited for long")
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
		break
	}
	s.mu.Unlock()
	until(t, s, 1, "the server ended one")
	<-time.After(30 * time.Millisecond) // it has come
	kept.sweep()
	kept.mu.Lock()
	left := len(kept.waiting)
	kept.mu.Unlock()
	if left != 1 {
		t.Errorf("%d are kept", left)
	}
	both := held(t, tr.base, s, 2)
	readAll(t, both[:1])
	tr.CloseIdleConnections()
	until(t, s, 1, "one was waiting, and one is under way")
	readAll(t, both[1:])
	until(t, s, 0, "after CloseIdleConnections")
	readAll(t, held(t, tr.base, s, 1))
	until(t, s, 1, "used again")
}
