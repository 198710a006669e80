package transport

import (
	"slices"
	"sync"
	"time"
)

// sweepEvery is how often connections that wait are looked at: nobody reads from them.
const sweepEvery = 30 * time.Second

// kept are the connections that wait for their next request, the longest first.
type kept struct {
	mu      sync.Mutex
	waiting []*wire
	wanted  []*wanted
	retired bool // none is to wait until there is a next request
	sweeper *time.Timer
}

// wanted is a connection for somebody who dials: the next that is given back will do.
type wanted struct {
	to  peer
	got chan *wire
}

// take is the connection to a server that waited for the shortest time, if it is still good.
func (k *kept) take(to peer) *wire {
	for {
		w := k.last(to)
		if w == nil || w.quiet() {
			return w
		}
		w.close()
	}
}

func (k *kept) last(to peer) *wire {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pop(to)
}

func (k *kept) pop(to peer) *wire {
	k.retired = false
	for i, w := range slices.Backward(k.waiting) {
		if w.to == to {
			k.waiting = slices.Delete(k.waiting, i, i+1)
			return w
		}
	}
	return nil
}

// want asks for a connection that was just given back, or that is next.
func (k *kept) want(to peer) *wanted {
	k.mu.Lock()
	defer k.mu.Unlock()
	it := &wanted{to: to, got: make(chan *wire, 1)}
	if w := k.pop(to); w != nil {
		it.got <- w
	} else {
		k.wanted = append(k.wanted, it)
	}
	return it
}

func (k *kept) withdraw(it *wanted) {
	k.mu.Lock()
	k.wanted = slices.DeleteFunc(k.wanted, func(w *wanted) bool { return w == it })
	k.mu.Unlock()
	select {
	case w := <-it.got:
		k.put(w)
	default:
	}
}

func (k *kept) put(w *wire) {
	w.since = time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := slices.IndexFunc(k.wanted, func(it *wanted) bool { return it.to == w.to }); i >= 0 {
		k.wanted[i].got <- w // it has room for one
		k.wanted = slices.Delete(k.wanted, i, i+1)
		return
	}
	if k.retired {
		w.close()
		return
	}
	k.waiting = append(k.waiting, w)
	if len(k.waiting) > maxIdle {
		k.waiting[0].close()
		k.waiting = slices.Delete(k.waiting, 0, 1)
	}
	if k.sweeper == nil {
		k.sweeper = time.AfterFunc(sweepEvery, k.sweep)
	}
}

// sweep closes what waited for too long, and what the other side has closed.
func (k *kept) sweep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = slices.DeleteFunc(k.waiting, func(w *wire) bool {
		gone := time.Since(w.since) > idleTimeout-sweepEvery || !w.quiet()
		if gone {
			w.close()
		}
		return gone
	})
	if k.sweeper = nil; len(k.waiting) > 0 {
		k.sweeper = time.AfterFunc(sweepEvery, k.sweep)
	}
}

// retire closes all that wait, and what would wait next.
func (k *kept) retire() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired = true
	for _, w := range k.waiting {
		w.close()
	}
	k.waiting = nil
	if k.sweeper != nil {
		k.sweeper.Stop()
		k.sweeper = nil
	}
}
