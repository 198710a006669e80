package queue

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// Why there is no turn. Another try may get one.
var (
	ErrFull = errors.New("too many requests of this client wait for their turn")
	ErrLate = errors.New("no turn in time")
)

// Limits are those of a queue.
type Limits struct {
	// Turns is how many there are at a time.
	Turns int
	// Waiting is how many requests of one client may wait for a turn: memory and
	// connections are others' too.
	Waiting int
	// Patience is how long one waits, at most.
	Patience time.Duration
	// OneClient says that nobody else ever comes. Else a client gets no more turns than it
	// leaves free: half of them alone, a third each where there are two, so that whoever
	// comes next need not wait until a long download has ended.
	OneClient bool
}

// Metrics are told by a queue who waits.
type Metrics interface {
	// Waiting is how many more wait, or fewer.
	Waiting(queue string, more int)
	// Waited is one that did, with or without getting its turn. Most wait for nothing, and
	// are not told of.
	Waited(queue string, d time.Duration)
	// Refused is one that got no turn: ErrFull or ErrLate.
	Refused(queue string, why error)
}

// Queue gives turns to clients, which are told apart by a name.
type Queue struct {
	name    string
	limits  Limits
	metrics Metrics

	mu      sync.Mutex
	taken   int
	clients map[string]*client // that have a turn, or wait for one
	round   list.List          // of the clients that wait: the next one is in front
}

type client struct {
	taken   int
	waiting list.List     // of *ticket, the oldest in front
	place   *list.Element // in the round; nil if nothing waits
}

// ticket is one request that waits.
type ticket struct {
	turn  chan struct{} // closed when it is its turn
	place *list.Element // in its client's line; nil from then on
}

// New makes a queue, with a name for metrics.
func New(name string, limits Limits, metrics Metrics) *Queue {
	return &Queue{name: name, limits: limits, metrics: metrics, clients: map[string]*client{}}
}

// Take waits until it is the turn of a request of the client. Without an error Give must
// follow. As long as there are turns it costs a lock and nothing else.
func (q *Queue) Take(ctx context.Context, name string) error {
	t, err := q.enter(name)
	if t == nil {
		if err != nil {
			q.metrics.Refused(q.name, err)
		}
		return err
	}
	began := time.Now()
	q.metrics.Waiting(q.name, 1)
	late := time.NewTimer(q.limits.Patience)
	defer late.Stop()
	select {
	case <-t.turn:
	case <-late.C:
		err = ErrLate
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil && !q.abandon(name, t) {
		err = nil // its turn came at the same moment
	}
	q.metrics.Waiting(q.name, -1)
	q.metrics.Waited(q.name, time.Since(began))
	if errors.Is(err, ErrLate) {
		q.metrics.Refused(q.name, err)
	}
	return err
}

// enter takes a turn if there is one, or a ticket.
func (q *Queue) enter(name string) (*ticket, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.clients[name]
	if c == nil {
		c = &client{}
		q.clients[name] = c
	}
	switch {
	case c.place == nil && q.has(c):
		c.taken++
		q.taken++
		return nil, nil
	case c.waiting.Len() >= q.limits.Waiting:
		q.forget(name, c)
		return nil, ErrFull
	}
	t := &ticket{turn: make(chan struct{})}
	t.place = c.waiting.PushBack(t)
	if c.place == nil {
		c.place = q.round.PushBack(c)
	}
	return t, nil
}

// has reports whether there is a turn for a client.
func (q *Queue) has(c *client) bool {
	free := q.limits.Turns - q.taken
	return free > 0 && (q.limits.OneClient || c.taken < free)
}

// abandon is false when the turn of the ticket has come.
func (q *Queue) abandon(name string, t *ticket) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.place == nil {
		return false
	}
	c := q.clients[name]
	q.leave(c, t)
	q.forget(name, c)
	return true
}

// leave takes a ticket out of its line, and its client out of the round if it was the last.
func (q *Queue) leave(c *client, t *ticket) {
	c.waiting.Remove(t.place)
	if t.place = nil; c.waiting.Len() == 0 {
		q.round.Remove(c.place)
		c.place = nil
	}
}

// forget drops a client that has nothing here.
func (q *Queue) forget(name string, c *client) {
	if c.taken == 0 && c.place == nil {
		delete(q.clients, name)
	}
}

// Give gives back a turn that Take took.
func (q *Queue) Give(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.clients[name]
	c.taken--
	q.taken--
	q.forget(name, c)
	q.goRound()
}

// goRound gives the turns that are free to those who wait. A client that has as many as
// are free is passed over, and keeps its place among the others.
func (q *Queue) goRound() {
	for passed := 0; passed < q.round.Len() && q.taken < q.limits.Turns; {
		c, _ := q.round.Front().Value.(*client)
		q.round.MoveToBack(c.place)
		if !q.has(c) {
			passed++
			continue
		}
		passed = 0
		t, _ := c.waiting.Front().Value.(*ticket)
		q.leave(c, t)
		c.taken++
		q.taken++
		close(t.turn)
	}
}
