package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/internal/datapath/store/cache"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/space"
)

// errLost is that there is no cache to ask.
var errLost = errors.New("the disk is lost")

// opened is the disk while it is there.
type opened struct {
	folder    *disk.Folder
	cache     *cache.Cache
	guard     *space.Guard // nil: no etcd is on it
	transport http.RoundTripper

	asking sync.RWMutex // read by who asks: nobody has the cache closed before the answer
	closed bool
}

// ask is errLost where there is nothing to ask any more.
func (o *opened) ask(req *http.Request) (*http.Response, error) {
	if o == nil {
		return nil, errLost
	}
	o.asking.RLock()
	defer o.asking.RUnlock()
	if o.closed {
		return nil, errLost
	}
	return o.transport.RoundTrip(req)
}

// close ends what comes: who reads it goes on past the store at the byte, and who reads a whole blob
// reads on.
func (o *opened) close() error {
	o.asking.Lock()
	defer o.asking.Unlock()
	o.closed = true
	if err := errors.Join(o.cache.Close(), o.folder.Close()); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// serve has the disk looked after until the context ends, or until it is lost: then it is left, and the
// error says why. A disk from which can be read is kept, whatever else is wrong with it.
func (v *volume) serve(ctx context.Context, o *opened) error {
	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { o.cache.Run(ctx) })
	if o.guard != nil {
		all.Go(func() { v.guard(ctx, o) })
	}
	ticker := time.NewTicker(cmp.Or(v.cfg.retry, retry))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		lost, err := v.look(o)
		if lost {
			v.lost(err)
			stop()
			all.Wait()
			v.now.Store(nil)
			if failed := o.close(); failed != nil { // it is lost
				v.log.Warn("what was on the disk is not all written", "err", failed)
			}
			return err
		}
		if err != nil {
			err = fmt.Errorf("nothing can be written to the disk, and what is on it is served: %w", err)
		}
		v.wrong(err)
	}
}

// lost notes that there is no disk any more, and why.
func (v *volume) lost(err error) {
	v.wrong(fmt.Errorf("%w, and pulls go past the store until it is back: %w", errLost, err))
}

// look says what is wrong with the disk. It is lost when the folder is another one by now, or none, and when
// nothing can be read: whoever mends it needs us to let go.
func (v *volume) look(o *opened) (lost bool, err error) {
	if err := o.folder.IsAt(v.cfg.Data); err != nil {
		return true, err
	}
	named, err := o.folder.Open("store.json")
	if err != nil { // also when somebody emptied it
		return true, err
	}
	_ = named.Close()
	_, err = probe(o.folder)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) { // that is the floor's business
		return false, nil
	}
	return errors.Is(err, unix.EIO), err
}
