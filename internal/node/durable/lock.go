package durable

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

// lockRetry is the pause before a lock that another process holds is tried
// again. The kernel has a call that waits, but no context can end that.
const lockRetry = 200 * time.Millisecond

// Lock waits until no other open file of the same name has the lock, or until
// ctx ends. The lock is held until the file is closed. The kernel also releases
// it when the process ends, even after kill -9.
func Lock(ctx context.Context, file *os.File) error { return lock(ctx, file, syscall.LOCK_EX) }

// Share is Lock for many: it waits for who has the lock alone only.
func Share(ctx context.Context, file *os.File) error { return lock(ctx, file, syscall.LOCK_SH) }

func lock(ctx context.Context, file *os.File, how int) error {
	for {
		err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		select {
		case <-time.After(lockRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
