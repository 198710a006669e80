package disk

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// unwritten is how many bytes of a steady folder's file may wait for the disk: that is how long
// somebody else's small sync waits behind them. By make bench-etcd SIZE=4 its p99 is four times what
// it is alone with 1 MiB, twice with a quarter of that, and no less with an eighth.
const unwritten = 256 << 10

// slowest is how long a part may take with the rest after it: so a disk that can do 10 MiB a second
// is not made slower, see space.SlowestPace.
const slowest = 25 * time.Millisecond

// steady has the files of a folder written to the disk one after the other, while they come. Else
// the system writes seconds of them at once, and an etcd on that disk waits for all of it.
type steady struct{ turn sync.Mutex }

// Steady has what is written to files from now on wait for the disk in small parts. It promises
// nothing of a power cut. It is called before files are opened.
func (d *Folder) Steady() { d.steady = &steady{} }

// WriteAt implements io.WriterAt.
func (f file) WriteAt(b []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(b, at)
	if f.steady == nil || f.fresh.Add(int64(n)) < unwritten {
		return n, err
	}
	f.fresh.Store(0)
	f.steady.turn.Lock()
	defer f.steady.turn.Unlock()
	begun := time.Now()
	if failed := control(f.File, "write out", func(fd int) error {
		return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	}); failed != nil && err == nil {
		err = fmt.Errorf("%w: %w", ErrUnwritten, failed) // the system says it once
	}
	took := time.Since(begun)
	<-time.After(max(0, min(took, slowest-took))) // half of the time is others': 3.6 times in place of 5, with 20 GiB
	return n, err
}
