package fill

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

var seeds = flag.Uint64("seeds", 60, "how many random lives of a blob are tried")

// life is one blob with random clients, a random source and a random disk. What goes wrong
// is chosen first, so that a life without it is held to more.
type life struct {
	*bench
	s    *script
	seed uint64

	breaks, refuses, lies, sick, evicts bool

	mu  sync.Mutex
	rnd *rand.Rand
}

func (l *life) n(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.IntN(n)
}

func (l *life) one(in int) bool { return l.n(in) == 0 }

// TestRandomLives: every byte that is read is right, none is fetched twice unless what came
// was lost, everybody who goes on gets all of it in the end, and nothing stays behind.
func TestRandomLives(t *testing.T) {
	t.Parallel()
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { newLife(t, seed).run() })
		})
	}
}

func newLife(t *testing.T, seed uint64) *life {
	l := &life{seed: seed, rnd: rand.New(rand.NewPCG(seed, 1))}
	l.breaks, l.refuses, l.lies, l.sick, l.evicts = l.one(2), l.one(3), l.one(4), l.one(4), l.one(3)
	l.bench = newBench(t, func(c *Config) {
		c.Pumps, c.Near, c.Keep = 1+l.n(4), int64(1+l.n(200_000)), 50_000
	})
	l.s = newScript(t, 1+l.n(600_000))
	l.s.single, l.s.piece = l.one(4), 1+l.n(40_000)
	l.s.fault = func(int, int64) error {
		<-time.After(time.Duration(l.n(20)) * time.Millisecond)
		if l.refuses && l.one(3) {
			return errors.New("503 Service Unavailable")
		}
		return nil
	}
	l.s.before = func() { // of each piece
		if l.one(4) {
			<-time.After(time.Duration(l.n(50)) * time.Millisecond)
		}
	}
	if l.breaks {
		l.s.cut = func(int, int64) int64 { return []int64{-1, int64(l.n(200_000))}[l.n(2)] }
	}
	if l.lies {
		l.s.lie = func(n int, a *Answer) {
			body, _ := a.Body.(*scriptBody)
			switch {
			case n > 20: // it may be got in the end
			case l.one(3):
				body.wrong = true
			case l.one(5):
				a.Size += int64(l.n(3) - 1)
			case l.one(5):
				a.From += int64(l.n(3) - 1)
			case l.one(5):
				a.Size = -1
			}
		}
	}
	if l.sick {
		l.disk.write = func(int64) error { return []error{nil, syscall.ENOSPC}[l.n(100)/99] }
		l.disk.rename = func(string) error { return []error{nil, syscall.EIO}[l.n(10)/9] }
	}
	return l
}

func (l *life) run() {
	var all sync.WaitGroup
	for client := range 1 + l.n(8) {
		all.Go(func() {
			<-time.After(time.Duration(l.n(500)) * time.Millisecond)
			if client == 0 {
				l.patient()
			} else {
				l.restless()
			}
		})
	}
	if l.evicts {
		all.Go(func() {
			for range 5 {
				<-time.After(time.Duration(l.n(1000)) * time.Millisecond)
				_ = l.blobs.Remove(l.s.digest)
			}
		})
	}
	all.Wait()
	l.settled()
	l.check()
}

// patient reads the whole blob, and goes on where it was when a reader ends.
func (l *life) patient() {
	var got []byte
	for range 400 {
		r, err := l.Open(l.t.Context(), l.s.digest, int64(len(got)), l.s)
		if err == nil {
			var more []byte
			more, err = io.ReadAll(r)
			got = append(got, more...)
			_ = r.Close()
		}
		if errors.Is(err, io.EOF) {
			l.t.Errorf("seed %d: taken for the end: %v", l.seed, err)
		}
		if errors.Is(err, blob.ErrDigest) {
			got = nil // as a client does
		}
		if err == nil && bytes.Equal(got, l.s.data) {
			return
		}
		if err == nil && !l.lies {
			l.t.Errorf("seed %d: %d wrong bytes", l.seed, len(got))
			return
		}
		if err == nil {
			got = nil // bytes of several fills; a client finds it by the digest
		}
	}
	l.t.Errorf("seed %d: never got all of it: %v", l.seed, l.s.asked())
}

// restless begins anywhere, reads parts, leaves in the middle, and comes again.
func (l *life) restless() {
	for range 1 + l.n(6) {
		l.visit(int64(l.n(len(l.s.data))))
		<-time.After(time.Duration(l.n(200)) * time.Millisecond)
	}
}

func (l *life) visit(from int64) {
	ctx, leave := context.WithTimeout(l.t.Context(), time.Duration(1+l.n(300))*time.Millisecond)
	defer leave()
	r, err := l.Open(ctx, l.s.digest, from, l.s)
	if err != nil {
		return
	}
	defer func() { _ = r.Close() }()
	to := r.Size()
	if l.one(2) {
		to = from + int64(l.n(int(max(1, to-from))))
		r.EndAt(to)
	}
	right := true
	for reads := l.n(100); reads >= 0; reads-- {
		at, p := r.At(), make([]byte, 1+l.n(50_000))
		n, err := r.Read(p)
		right = right && at+int64(n) <= int64(len(l.s.data)) && bytes.Equal(p[:n], l.s.data[at:at+int64(n)])
		if !right && !l.lies {
			l.t.Errorf("seed %d: %d wrong bytes at %d", l.seed, n, at)
		}
		if errors.Is(err, io.EOF) && (r.At() != to || !right && r.At() == r.Size()) {
			l.t.Errorf("seed %d: it ended at %d of %d, right: %v", l.seed, r.At(), r.Size(), right)
		}
		if err != nil {
			return
		}
	}
}

func (l *life) check() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.open > 0 {
		l.t.Errorf("seed %d: %d bodies are open", l.seed, l.s.open)
	}
	// One that asks before another has heard that all of it is sent, whatever is asked for, has it
	// again.
	lost := l.evicts || l.lies || l.s.single && (l.breaks || l.refuses || l.cfg.Pumps > 1)
	for _, err := range l.told.ends() {
		lost = lost || errors.Is(err, ErrNoStore)
	}
	for at, times := range l.s.times {
		if times > 1 && !lost {
			l.t.Errorf("seed %d: byte %d was fetched %d times: %v", l.seed, at, times, l.s.requests)
			return
		}
	}
	if !lost && !l.breaks && !l.refuses && !l.sick && len(l.s.requests) > max(2, l.cfg.Pumps) {
		l.t.Errorf("seed %d: asked %d times: %s", l.seed, len(l.s.requests), strings.Join(l.s.requests, " "))
	}
}
