// Package filelock lets one process at a time do something, by a file that all of
// them can open. The kernel takes the lock from a process that ends, however it
// does. Start at Lock.
package filelock

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lookEvery is how often a lock that somebody holds is tried again: nobody tells
// when it is free, unless one sleeps through a stop.
const lookEvery = 200 * time.Millisecond

// Lock waits until no other open file of the same name holds the lock, or ctx
// ends. The lock is held until the file is closed.
func Lock(ctx context.Context, file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		timer := time.NewTimer(lookEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
