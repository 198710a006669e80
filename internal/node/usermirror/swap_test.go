package usermirror

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// usersFile is a host directory with one file of a user's, a minute old.
func usersFile(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, "a.io", fileHosts)
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(crashFile), 0o644); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Minute)
	if err := os.Chtimes(file, past, past); err != nil {
		t.Fatal(err)
	}
	return dir, file
}

// applied puts the block into it.
func applied(t *testing.T, dir string, before func(durabletest.Change) durabletest.Fault) (Result, []string) {
	t.Helper()
	folder, err := durable.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	seen := &durabletest.FS{FS: folder, Before: before}
	a := &applier{fsys: seen, shown: dir, blocks: []string{"a.io"}, now: time.Now()}
	a.plan.agent = hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: "0123456789abcdef", AgentCA: "a CA"}
	if err := a.run(); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, c := range seen.Changes {
		steps = append(steps, c.String())
	}
	return a.res, steps
}

// Scripts rewrite a file in place, so that it stays the same file for the kernel.
func TestAFileThatAUserWritesMeanwhileIsTheirs(t *testing.T) {
	t.Parallel()
	longer, sameSize := crashFile+"\n# more", "# another"+crashFile[len("# another"):]
	for name, c := range map[string]struct {
		text string
		keep bool // its time
	}{
		"another size, the same time": {longer, true},
		"another time, the same size": {sameSize, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, file := usersFile(t)
			res, _ := applied(t, dir, func(change durabletest.Change) durabletest.Fault {
				if change.Op != durabletest.Write || change.Name != "a.io/"+fileHosts+tempSuffix {
					return durabletest.Fault{}
				}
				info, err := os.Stat(file)
				if err != nil {
					return durabletest.Fault{Err: err}
				}
				err = os.WriteFile(file, []byte(c.text), 0)
				if err == nil && c.keep {
					err = os.Chtimes(file, info.ModTime(), info.ModTime())
				}
				return durabletest.Fault{Err: err}
			})
			data, err := os.ReadFile(file)
			if err != nil || string(data) != c.text || !res.Again {
				t.Errorf("again %t, %v; the user's file is now\n%s", res.Again, err, data)
			}
		})
	}
}

// A file that was written a moment ago may not be complete: who writes it truncates it
// first. The clock of the test is that of the file.
func TestAFileOfThisMomentIsLeft(t *testing.T) {
	t.Parallel()
	for age, left := range map[time.Duration]bool{settleTime / 2: true, 2 * settleTime: false, -time.Hour: false} {
		dir, file := usersFile(t)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		folder, err := durable.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		a := &applier{fsys: folder, shown: dir, blocks: []string{"a.io"}, now: info.ModTime().Add(age)}
		a.plan.agent = hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: "0123456789abcdef", AgentCA: "a CA"}
		if err := a.run(); err != nil {
			t.Fatal(err)
		}
		if err := folder.Close(); err != nil {
			t.Fatal(err)
		}
		if a.res.Again != left || a.res.Changed() == left {
			t.Errorf("%v old: %+v", age, a.res)
		}
	}
}

// The file is the user's as before: its owner may edit it, and after a power cut it is
// there.
func TestTheBlockChangesNoOwnerAndIsOnDisk(t *testing.T) {
	t.Parallel()
	dir, file := usersFile(t)
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	_, steps := applied(t, dir, nil)
	after, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	owner := func(info fs.FileInfo) [2]uint32 {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			t.Fatal("no owner")
		}
		return [2]uint32{stat.Uid, stat.Gid}
	}
	if owner(before) != owner(after) {
		t.Errorf("the owner is now %v", owner(after))
	}
	at := slices.Index(steps, "rename a.io/"+fileHosts)
	if at < 0 || len(steps) <= at+1 || steps[at+1] != "sync a.io" {
		t.Errorf("after a power cut the block may be gone: %q", steps)
	}
}
