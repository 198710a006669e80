package transport

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// layer is a large body, no two parts of it alike.
func layer(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data) // it never fails
	return data
}

// bodies answers each request with data, cut in pieces by cut; after says what follows.
func bodies(data []byte, after string, cut func() int) func(*scripted) func(*http.Request, net.Conn) bool {
	return func(*scripted) func(*http.Request, net.Conn) bool {
		return func(_ *http.Request, c net.Conn) bool {
			_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(data))
			for rest := append(data[:len(data):len(data)], after...); len(rest) > 0 && err == nil; {
				piece := min(cut(), len(rest))
				_, err = c.Write(rest[:piece])
				rest = rest[piece:]
			}
			return err != nil
		}
	}
}

// TestLargeBodies come as they were sent, however that was, and leave the connection as it was.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	data := layer(3<<20 + 17)
	for name, cut := range map[string]func() int{
		"in large pieces":        func() int { return len(data) },
		"in pieces of all sizes": func() int { return 1 + rand.IntN(40<<10) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, true, bodies(data, "", cut))
			client := transportTo(t, s).base
			for range 4 {
				resp, err := client.RoundTrip(request(t.Context(), t, s, "/"))
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(bufio.NewReaderSize(readIn{resp.Body}, 256<<10))
				if err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d of %d bytes, alike: %v; %v", len(got), len(data), bytes.HasPrefix(data, got), err)
				}
				_ = resp.Body.Close()
			}
			if n := s.conns.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// readIn reads pieces of all sizes.
type readIn struct{ io.Reader }

func (r readIn) Read(p []byte) (int, error) {
	return r.Reader.Read(p[:1+rand.IntN(len(p))])
}

// TestWhatIsThereIsReadAtOnce: all records that have come, and no waiting for one that has not.
func TestWhatIsThereIsReadAtOnce(t *testing.T) {
	t.Parallel()
	data, more := layer(1<<20), make(chan struct{})
	defer close(more)
	s := serve(t, true, func(*scripted) func(*http.Request, net.Conn) bool {
		return func(_ *http.Request, c net.Conn) bool {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(data)) // the client may be gone
			_, _ = c.Write(data[:300<<10])                                                    // the same
			<-more
			return true
		}
	})
	resp, err := transportTo(t, s).base.RoundTrip(request(t.Context(), t, s, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	<-time.After(100 * time.Millisecond) // all that is sent has come
	reads, got, buffer := 0, 0, make([]byte, readAhead)
	for time.AfterFunc(10*time.Second, func() { _ = resp.Body.Close() }); got < 300<<10; reads++ {
		n, err := resp.Body.Read(buffer)
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += n
	}
	if reads > 12 { // of one record each it would be 19
		t.Errorf("%d bytes in %d reads", got, reads)
	}
}

// TestWhatFollowsALargeBody belongs to no answer: the connection is not used again, and nothing
// is asked for on it.
func TestWhatFollowsALargeBody(t *testing.T) {
	t.Parallel()
	data, sizes := layer(200<<10), []int{200 << 10, 40 << 10} // more than TLS takes on by itself
	var asked atomic.Int32
	answer := bodies(data, strings.Repeat("x", sizes[1]), func() int { return sizes[int(asked.Add(1)-1)%2] })
	s := serve(t, true, answer)
	client := transportTo(t, s).base
	for range 3 {
		resp, err := client.RoundTrip(request(t.Context(), t, s, "/"))
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(50 * time.Millisecond) // all of it has come
		got, err := io.ReadAll(bufio.NewReaderSize(resp.Body, 256<<10))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
		}
		_ = resp.Body.Close()
	}
	if n := asked.Load() / 2; n != 3 || s.conns.Load() != 3 {
		t.Errorf("asked %d times on %d connections for 3 answers with something behind", n, s.conns.Load())
	}
}

// TestNothingIsDropped: TLS mostly takes what follows a body by itself, and then it is found
// when the connection is used again. What it did not take is found here.
func TestNothingIsDropped(t *testing.T) {
	t.Parallel()
	var pool sync.Pool
	for rest, want := range map[string]bool{"": true, "x": false} {
		s := &socket{rest: []byte(rest)}
		s.readAhead(&pool)
		if got := s.readNothingAhead(&pool); got != want {
			t.Errorf("%q is still to be taken: used again %v", rest, got)
		}
	}
}
