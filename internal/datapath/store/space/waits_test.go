package space

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
)

// Who waits while another makes room for itself gets its own, however small what goes is.
func TestRoomThatOthersMake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(10_000)
		var have []blob.Info
		for n := range 90 {
			have = append(have, blob.Info{Digest: digest(n), Size: 10})
		}
		k := keeper(d, Config{Quota: 1000}, have...)
		k.cfg.Remove = func(digest string) error {
			<-time.After(time.Millisecond)
			return d.remove(digest)
		}
		var other sync.WaitGroup
		defer other.Wait()
		other.Go(func() {
			if _, _, err := k.Reserve(digest(100), 300); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // it removes
		if _, _, err := k.Reserve(digest(101), 200); err != nil {
			t.Error(err)
		}
	})
}
