package disk_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// waiting is how many bytes of a file are not on the disk yet.
func waiting(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var seen unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &seen, 0); err != nil {
		t.Skip("this kernel does not say what waits for the disk:", err)
	}
	return int64(seen.Dirty+seen.Writeback) * int64(os.Getpagesize())
}

// TestSteady: what comes to a steady folder never waits for the disk by more than a moment's
// worth; elsewhere the system collects it.
func TestSteady(t *testing.T) {
	t.Parallel()
	most := map[bool]int64{}
	for _, steady := range []bool{false, true} {
		dir := t.TempDir()
		folder, err := disk.OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		if steady {
			folder.Steady()
		}
		f, err := folder.Create("blob")
		if err != nil {
			t.Fatal(err)
		}
		part := make([]byte, 32<<10)
		for at := int64(0); at < 16<<20; at += int64(len(part)) {
			if _, err := f.WriteAt(part, at); err != nil {
				t.Fatal(err)
			}
			most[steady] = max(most[steady], waiting(t, filepath.Join(dir, "blob")))
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_ = folder.Close()
	}
	if most[false] == 0 {
		t.Skip("nothing waits for the disk on this file system")
	}
	if most[true] > 256<<10 || most[false] < 4<<20 {
		t.Errorf("up to %d bytes wait in a steady folder, and %d in another", most[true], most[false])
	}
}
