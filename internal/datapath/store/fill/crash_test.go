package fill

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// TestCrashes: a process is killed, or the power fails, at each change that a fill makes. The
// next one gives the blob to whoever asks, with the first try, and fetches none of what was noted
// before the kill.
func TestCrashes(t *testing.T) {
	t.Parallel()
	const size, each = 200_000, 2 * chunk
	for _, power := range []bool{false, true} {
		for _, effect := range []disktest.Effect{disktest.Nothing, disktest.Half, disktest.Done} {
			t.Run(fmt.Sprintf("power %v, effect %d", power, effect), func(t *testing.T) {
				t.Parallel()
				for at, done := 1, false; !done; at++ {
					d, s := disktest.New(), newScript(t, size)
					p := d.Process(disktest.Kill(at, effect))
					err := oneProcess(t, p, "first", each, s)
					if done = !p.Dead(); done && err != nil {
						t.Fatal(err)
					}
					kept, boot := noted(d, p), "first"
					if p.Kill(); power {
						d.PowerCut(uint64(at))
						kept, boot = false, "second"
					}
					before := s.given()
					if err := oneProcess(t, d.Process(nil), boot, each, s); err != nil {
						t.Fatalf("killed at %d: %v", at, err)
					}
					if again := s.given() - before; kept && again > size-each {
						t.Errorf("killed at %d: %d bytes were fetched again", at, again)
					}
				}
			})
		}
	}
}

// noted reports whether there is a note on what came; of what is being committed it is not used.
func noted(d *disktest.Disk, p *disktest.Process) bool {
	for _, s := range p.Steps() {
		if s.Op == disktest.Seal {
			return false
		}
	}
	for name := range d.Files() {
		if strings.HasPrefix(name, "partial/") && strings.HasSuffix(name, ".json") {
			return true
		}
	}
	return false
}

// oneProcess opens a store, reads the blob, and ends.
func oneProcess(t *testing.T, fsys disk.FS, boot string, each int64, s *script) error {
	blobs, err := blob.Open(t.Context(), fsys, blob.Options{Boot: boot})
	if err != nil {
		return err
	}
	f := New(t.Context(), Config{
		Blobs: blobs, Reserve: (&room{coming: map[string]int64{}, kept: map[string]bool{}}).reserve, Keep: each,
		Metrics: &told{opened: map[How]int{}}, Log: slog.New(slog.DiscardHandler),
	})
	r, err := f.Open(t.Context(), s.digest, 0, s)
	if err == nil {
		var got []byte
		if got, err = io.ReadAll(r); !bytes.Equal(got, s.data[:len(got)]) || err == nil && len(got) < len(s.data) {
			t.Errorf("%d wrong bytes, %v", len(got), err)
		}
		_ = r.Close()
	}
	f.settled()
	return errors.Join(err, f.Close(), blobs.Close())
}
