package inbound

import "context"

const (
	// record is what TLS writes at once, in bytes.
	record = 16 << 10
	// room is for what belongs together, in bytes: eight records.
	room = 130 << 10
)

// Together returns what has all that a write sends to the client of a request go out at
// once. TLS makes a record of each 16 KiB, and each would be a call of the kernel and wake the
// client. Its error is that of the write or of sending it; then nothing more can be sent.
func Together(ctx context.Context) func(write func() error) error {
	c, ok := ctx.Value(connKey{}).(*conn)
	if !ok || !c.secured {
		return func(write func() error) error { return write() }
	}
	return c.writeTogether
}

func (c *conn) writeTogether(write func() error) error {
	kept, ok := c.gate.kept.Get().(*[]byte)
	if !ok {
		return write() // the pool has nothing else
	}
	*kept = (*kept)[:0]
	c.out.Lock()
	c.together = kept
	c.out.Unlock()
	err := c.sendKept(write())
	c.gate.kept.Put(kept)
	return err
}

// sendKept holds the lock until all is sent: TLS may answer its client meanwhile, and records
// have an order. It may wait for the client, and TLS then waits for it, even to close: a server
// that is to end cuts below both, see Serve.
func (c *conn) sendKept(err error) error {
	c.out.Lock()
	defer c.out.Unlock()
	kept := *c.together
	if c.together = nil; err == nil {
		_, err = c.send(kept)
	}
	return err
}
