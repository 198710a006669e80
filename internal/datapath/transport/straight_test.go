package transport

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// says is what a server does with a request: an answer, in pieces that are sent one by one,
// and whether it hangs up then.
type says struct {
	pieces []string
	end    bool
}

const (
	good    = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
	chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-After\r\n\r\n4\r\ngood\r\n0\r\nX-After: yes\r\n\r\n"
	large   = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Large: "
)

// one is an answer in one piece.
func one(answer string) says { return says{pieces: []string{answer}} }

// last is an answer after which the server hangs up.
func last(answer string) says { return says{pieces: []string{answer}, end: true} }

// scripted is a server that answers each request as the script says, on whatever
// connection it comes, and then well.
type scripted struct {
	upstream  upstream.Upstream
	conns     atomic.Int32
	asked     atomic.Int32
	answered  atomic.Int32
	mu        sync.Mutex
	open      map[net.Conn]bool
	answering func(in *http.Request, out net.Conn) (end bool)
}

func serve(t *testing.T, secured bool, answering func(*scripted) func(*http.Request, net.Conn) bool) *scripted {
	t.Helper()
	s := &scripted{open: map[net.Conn]bool{}, upstream: upstream.Upstream{Scheme: upstream.HTTP}}
	s.answering = answering(s)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.upstream.Host = listener.Addr().String()
	if secured {
		pair, ca, err := cert.SelfSigned("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		s.upstream.Scheme, s.upstream.CA = upstream.HTTPS, ca
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			s.note(c, true)
			serving.Go(func() { s.connection(c) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for c := range s.open {
			_ = c.Close()
		}
		s.mu.Unlock()
		serving.Wait()
	})
	return s
}

func (s *scripted) note(c net.Conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[c] = open; !open {
		delete(s.open, c)
	}
}

func (s *scripted) stillOpen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

func (s *scripted) connection(c net.Conn) {
	defer s.note(c, false)
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil || s.answering(req, c) {
			return
		}
	}
}

// script answers the requests one after the other.
func script(all []says) func(*scripted) func(*http.Request, net.Conn) bool {
	return func(s *scripted) func(*http.Request, net.Conn) bool {
		return func(_ *http.Request, c net.Conn) bool {
			defer s.answered.Add(1)
			now := one(good)
			if n := int(s.asked.Add(1)); n <= len(all) {
				now = all[n-1]
			}
			for i, piece := range now.pieces {
				if i > 0 {
					<-time.After(10 * time.Millisecond) // else they may arrive as one
				}
				_, _ = io.WriteString(c, piece) // the client may be gone
			}
			return now.end
		}
	}
}

// TestAsNetHTTP: what servers may do, and what becomes of it: the same as with net/http.
func TestAsNetHTTP(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method string
		says   []says
		late   bool // more comes than was asked for: net/http sees it in a goroutine of its own, in time or not
		want   string
	}{
		"bodies with a length":               {says: []says{one(good), one(good)}, want: "200 good, 200 good, 200 good; 3 asked on 1"},
		"in pieces":                          {says: []says{{pieces: []string{good[:9], good[9:40], good[40:]}}}, want: "200 good, 200 good, 200 good; 3 asked on 1"},
		"chunks and a trailer":               {says: []says{one(chunked)}, want: "200 good yes, 200 good, 200 good; 3 asked on 1"},
		"until the end":                      {says: []says{last("HTTP/1.1 200 OK\r\n\r\ngood")}, want: "200 good, 200 good, 200 good; 3 asked on 2"},
		"Connection: close":                  {says: []says{one("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood")}, want: "200 good, 200 good, 200 good; 3 asked on 2"},
		"HTTP/1.0":                           {says: []says{one("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood")}, want: "200 good, 200 good, 200 good; 3 asked on 2"},
		"no content":                         {says: []says{one("HTTP/1.1 204 No Content\r\n\r\n"), one("HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n")}, want: "204 , 304 , 200 good; 3 asked on 1"},
		"an empty body":                      {says: []says{one("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}, want: "200 , 200 good, 200 good; 3 asked on 1"},
		"HEAD":                               {method: http.MethodHead, says: []says{one(good[:len(good)-4]), one(good[:len(good)-4]), one(good[:len(good)-4])}, want: "200 , 200 , 200 ; 3 asked on 1"},
		"answers before the answer":          {says: []says{one("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + good)}, want: "200 good, 200 good, 200 good; 3 asked on 1"},
		"only such answers":                  {says: []says{one(strings.Repeat("HTTP/1.1 103 Early Hints\r\nX: "+strings.Repeat("x", 1<<10)+"\r\n\r\n", MaxHeader>>10)), one(good)}, want: "error, 200 good, 200 good; 3 asked on 2"},
		"a large header":                     {says: []says{one(large + strings.Repeat("x", MaxHeader-1<<10) + "\r\n\r\ngood")}, want: "200 good, 200 good, 200 good; 3 asked on 1"},
		"one that is too large":              {says: []says{one(large + strings.Repeat("x", MaxHeader) + "\r\n\r\ngood")}, want: "error, 200 good, 200 good; 3 asked on 2"},
		"a large body":                       {says: []says{one("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", 1<<20))}, want: "200 1048576 bytes, 200 good, 200 good; 3 asked on 1"},
		"more than its length":               {late: true, says: []says{one(good + good)}, want: "200 good, 200 good, 200 good; 3 asked on 2"},
		"more, a moment later":               {late: true, says: []says{{pieces: []string{good, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"}}}, want: "200 good, 200 good, 200 good; 3 asked on 2"},
		"less than its length":               {says: []says{last("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngood")}, want: "200 good, then an error, 200 good, 200 good; 3 asked on 2"},
		"no HTTP":                            {says: []says{one("SSH-2.0-OpenSSH\r\n")}, want: "error, 200 good, 200 good; 3 asked on 2"},
		"it hangs up at once":                {says: []says{last("")}, want: "error, 200 good, 200 good; 3 asked on 2"},
		"while the connection waits":         {says: []says{last(good)}, want: "200 good, 200 good, 200 good; 3 asked on 2"},
		"when the connection is used again":  {says: []says{one(good), last("")}, want: "200 good, 200 good, 200 good; 4 asked on 2"},
		"in the middle of the second header": {says: []says{one(good), last(good[:20])}, want: "200 good, error, 200 good; 3 asked on 2"},
	} {
		for _, secured := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secured), func(t *testing.T) {
				t.Parallel()
				for by, through := range peers() {
					if tc.late && by != "ours" {
						continue
					}
					s := serve(t, secured, script(tc.says))
					client := through(transportTo(t, s))
					var got []string
					for range 3 {
						got = append(got, ask(t, client, s, cmp.Or(tc.method, http.MethodGet)))
						for s.answered.Load() < s.asked.Load() {
							<-time.After(time.Millisecond)
						}
					}
					if got := fmt.Sprintf("%s; %d asked on %d", strings.Join(got, ", "), s.asked.Load(), s.conns.Load()); got != tc.want {
						t.Errorf("%s: %s, want %s", by, got, tc.want)
					}
				}
			})
		}
	}
}

// peers are net/http and ours.
func peers() map[string]func(*Transport) http.RoundTripper {
	return map[string]func(*Transport) http.RoundTripper{
		"net/http": func(t *Transport) http.RoundTripper { return t.base.Transport },
		"ours":     func(t *Transport) http.RoundTripper { return t.base },
	}
}

func transportTo(t *testing.T, s *scripted) *Transport {
	t.Helper()
	tr, err := New(s.upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func request(ctx context.Context, t *testing.T, s *scripted, path string) *http.Request {
	t.Helper()
	at := s.upstream.Origin()
	at.Path = path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// ask says in words what came.
func ask(t *testing.T, client http.RoundTripper, s *scripted, method string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req := request(ctx, t, s, "/")
	req.Method = method
	resp, err := client.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			t.Error(err)
		}
		return "error"
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	text := string(data)
	if len(text) > 100 {
		text = fmt.Sprintf("%d bytes", len(text))
	}
	text = strings.TrimSuffix(fmt.Sprintf("%d %s %s", resp.StatusCode, text, resp.Trailer.Get("X-After")), " ")
	if err != nil {
		text += ", then an error"
	}
	return text
}

// TestAReaderThatGoes takes the connection along: the rest of its body comes later.
func TestAReaderThatGoes(t *testing.T) {
	t.Parallel()
	for by, through := range peers() {
		s := serve(t, false, script([]says{{pieces: []string{good[:len(good)-4], good[len(good)-4:]}}}))
		client := through(transportTo(t, s))
		resp, err := client.RoundTrip(request(t.Context(), t, s, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: read after it", by)
		}
		if got := ask(t, client, s, http.MethodGet); got != "200 good" || s.conns.Load() != 2 {
			t.Errorf("%s: then %s, on %d connections", by, got, s.conns.Load())
		}
	}
}

// TestTheContextEndsIt: at any time, and the connection is not used again.
func TestTheContextEndsIt(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for name, pieces := range map[string]string{"before the header": "", "in the header": good[:20], "in the body": good[:len(good)-2]} {
		for by, through := range peers() {
			t.Run(name+", "+by, func(t *testing.T) {
				t.Parallel()
				s := serve(t, true, script([]says{one(good), one(pieces)}))
				client := through(transportTo(t, s))
				ask(t, client, s, http.MethodGet)
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
				resp, err := client.RoundTrip(request(ctx, t, s, "/"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
				if !errors.Is(err, why) && !errors.Is(err, context.Canceled) {
					t.Errorf("%v", err)
				}
				if got := ask(t, client, s, http.MethodGet); got != "200 good" || s.conns.Load() != 2 {
					t.Errorf("then %s, on %d connections", got, s.conns.Load())
				}
			})
		}
	}
}

// TestWhatIsWrongIsNotSent, as net/http does not.
func TestWhatIsWrongIsNotSent(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*http.Request){
		"a line break in a value": func(r *http.Request) { r.Header.Set("X", "a\r\nY: b") },
		"a name with a space":     func(r *http.Request) { r.Header["X Y"] = []string{"z"} },
		"no host":                 func(r *http.Request) { r.URL.Host = "" },
		"another scheme":          func(r *http.Request) { r.URL.Scheme = "ftp" },
	} {
		for by, through := range peers() {
			s := serve(t, false, script(nil))
			req := request(t.Context(), t, s, "/")
			spoil(req)
			resp, err := through(transportTo(t, s)).RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			if err == nil || s.asked.Load() > 0 {
				t.Errorf("%s, %s: sent; %v", name, by, err)
			}
		}
	}
}
