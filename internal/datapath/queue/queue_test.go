package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// told is what a queue told of itself.
type told struct {
	mu      sync.Mutex
	waiting int
	waited  []time.Duration
	refused []error
}

func (m *told) Waiting(_ string, more int) { m.mu.Lock(); defer m.mu.Unlock(); m.waiting += more }
func (m *told) Waited(_ string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waited = append(m.waited, d)
}
func (m *told) Refused(_ string, why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = append(m.refused, why)
}

// crowd asks a queue for turns and notes who gets one, in order. It is for a bubble of
// synctest.
type crowd struct {
	t   *testing.T
	q   *Queue
	mu  sync.Mutex
	got []string
}

// come has requests of a client arrive one after the other: a1, a2 ...
func (c *crowd) come(client string, requests int) {
	for n := range requests {
		go func() {
			if err := c.q.Take(c.t.Context(), client); err != nil {
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.got = append(c.got, fmt.Sprintf("%s%d", client, n+1))
		}()
		synctest.Wait()
	}
}

func (c *crowd) served() string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.got, " ")
}

// TestTurnsGoRound: one of each client that waits, and within a client by arrival.
func TestTurnsGoRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{t: t, q: New("layers", Limits{Turns: 1, Waiting: 100, Patience: time.Hour}, &told{})}
		c.come("x", 1)
		c.come("a", 5)
		c.come("b", 2)
		c.come("c", 1)
		for _, who := range []string{"x", "a", "b", "c", "a", "b", "a", "a"} {
			c.q.Give(who)
			synctest.Wait()
		}
		if got, want := c.served(), "x1 a1 b1 c1 a2 b2 a3 a4 a5"; got != want {
			t.Errorf("turns went\n%s, want\n%s", got, want)
		}
	})
}

// TestWhoComesNextFindsATurn: however much others ask for and however long they take.
func TestWhoComesNextFindsATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := New("layers", Limits{Turns: 12, Waiting: 100, Patience: time.Hour}, &told{})
		c := &crowd{t: t, q: q}
		for _, want := range []struct {
			client string
			turns  int
		}{{"a", 6}, {"b", 3}, {"c", 2}, {"d", 1}} {
			before := len(c.got)
			c.come(want.client, 20)
			if got := len(c.got) - before; got != want.turns {
				t.Errorf("%s has %d turns at once, want %d", want.client, got, want.turns)
			}
		}
		// All are taken. What a gives back is for those that have less, until all have as much.
		for range 5 {
			q.Give("a")
			synctest.Wait()
		}
		turns := map[string]int{"a": -5}
		for _, who := range c.got {
			turns[who[:1]]++
		}
		if turns["a"] > 2 || turns["c"] < 2 || turns["d"] < 2 {
			t.Errorf("in the end they have %v", turns)
		}
	})
}

// TestOneClientHasAllTurns: where nobody else comes none is kept for others.
func TestOneClientHasAllTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{t: t, q: New("layers", Limits{Turns: 3, Waiting: 100, Patience: time.Hour, OneClient: true}, &told{})}
		c.come("", 5)
		if got := c.served(); got != "1 2 3" {
			t.Errorf("served %q", got)
		}
		c.q.Give("")
		if got := c.served(); got != "1 2 3 4" {
			t.Errorf("then %q", got)
		}
	})
}

// TestALineHasAnEnd: who has too many waiting is refused, and only they.
func TestALineHasAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &told{}
		q := New("layers", Limits{Turns: 1, Waiting: 2, Patience: time.Minute}, m)
		c := &crowd{t: t, q: q}
		c.come("a", 3) // one is served, two wait
		if err := q.Take(t.Context(), "a"); !errors.Is(err, ErrFull) {
			t.Errorf("the third that waits: %v", err)
		}
		c.come("b", 2)
		if m.waiting != 4 || len(m.refused) != 1 {
			t.Errorf("%d wait, refused %v", m.waiting, m.refused)
		}
	})
}

// TestPatience: who waits too long is told so, and who comes after has the place.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &told{}
		q := New("layers", Limits{Turns: 1, Waiting: 9, Patience: 8 * time.Second}, m)
		c := &crowd{t: t, q: q}
		c.come("a", 1)
		began := time.Now()
		if err := q.Take(t.Context(), "b"); !errors.Is(err, ErrLate) || time.Since(began) != 8*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		c.come("c", 1)
		<-time.After(time.Second)
		q.Give("a")
		if got := c.served(); got != "a1 c1" {
			t.Errorf("served %q", got)
		}
		if m.waiting != 0 || !slices.Equal(m.waited, []time.Duration{8 * time.Second, time.Second}) || len(m.refused) != 1 {
			t.Errorf("%d wait, waits %v, refused %v", m.waiting, m.waited, m.refused)
		}
	})
}

// TestWhoGoesAwayLeavesNothing: a client that hangs up while it waits gets no turn later.
func TestWhoGoesAwayLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &told{}
		q := New("layers", Limits{Turns: 1, Waiting: 9, Patience: time.Minute}, m)
		c := &crowd{t: t, q: q}
		c.come("a", 1)
		ctx, hangUp := context.WithCancel(t.Context())
		go hangUp()
		if err := q.Take(ctx, "b"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		q.Give("a")
		if q.taken != 0 || len(q.clients) != 0 || q.round.Len() != 0 || m.waiting != 0 || len(m.refused) != 0 {
			t.Errorf("%d turns, clients %v, %d in the round, %d wait, refused %v", q.taken, q.clients, q.round.Len(), m.waiting, m.refused)
		}
	})
}

// TestTurnsAreNeverMore: whatever clients do and when, with the real clock.
func TestTurnsAreNeverMore(t *testing.T) {
	t.Parallel()
	const turns = 7
	m := &told{}
	q := New("layers", Limits{Turns: turns, Waiting: 20, Patience: 3 * time.Millisecond}, m)
	var served, now atomic.Int64
	var all sync.WaitGroup
	for n := range 200 {
		all.Go(func() {
			client := fmt.Sprint(n % 9)
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+rand.IntN(5))*time.Millisecond)
				if q.Take(ctx, client) == nil {
					if more := now.Add(1); more > turns {
						t.Errorf("%d turns at a time", more)
					}
					served.Add(1)
					<-time.After(time.Duration(rand.IntN(200)) * time.Microsecond)
					now.Add(-1)
					q.Give(client)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if served.Load() == 0 || q.taken != 0 || len(q.clients) != 0 || q.round.Len() != 0 || m.waiting != 0 {
		t.Errorf("%d served; left are %d turns, %d clients, %d in the round, %d that wait",
			served.Load(), q.taken, len(q.clients), q.round.Len(), m.waiting)
	}
}

// TestATurnCostsLittle: as long as nobody waits it is what is known of a client, at most.
func TestATurnCostsLittle(t *testing.T) { // alone: it counts what the process allocates
	q := New("small", Limits{Turns: 9, Waiting: 9, Patience: time.Minute}, &told{})
	if n := testing.AllocsPerRun(100, func() {
		if q.Take(t.Context(), "10.0.0.1") == nil {
			q.Give("10.0.0.1")
		}
	}); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
