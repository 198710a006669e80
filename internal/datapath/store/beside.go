package store

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

const (
	probeEvery = 5 * time.Second
	probeFile  = "guard.probe"
	probeSize  = 4 << 10 // as etcd syncs
)

// sameDisk reports whether two folders are on one disk. One that is not there is on none.
func sameDisk(a, b string) bool {
	var of, other unix.Stat_t
	return unix.Stat(a, &of) == nil && unix.Stat(b, &other) == nil && of.Dev == other.Dev
}

// guard looks how the disk does, for the etcd on it, until the context ends.
func (v *volume) guard(ctx context.Context, o *opened) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	o.guard.Run(ctx, probeEvery, ticker.C, func() (time.Duration, error) { return probe(o.folder) })
}

// probe is how long it takes until a little is on the disk.
func probe(fsys disk.FS) (time.Duration, error) {
	f, err := fsys.Edit(probeFile)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(probeFile)
	}
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err = f.WriteAt(make([]byte, probeSize), 0); err == nil {
		err = f.Sync()
	}
	return time.Since(begun), errors.Join(err, f.Close())
}
