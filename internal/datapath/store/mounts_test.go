package store

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/d8-registry/registry/test/harness/containerdtest"
)

// Mounts of these tests are in a namespace of their own: none is left, however they end.
func TestMain(m *testing.M) { os.Exit(containerdtest.Isolate(m.Run)) }

// small makes a folder a disk of that size.
func small(t *testing.T, folder string, size int64) {
	t.Helper()
	mounted(t, folder, syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
}

func mounted(t *testing.T, folder string, err error) {
	t.Helper()
	if errors.Is(err, syscall.EPERM) || err != nil && os.Geteuid() != 0 {
		t.Skip("only root may mount")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(folder) })
}

func unmount(folder string) { _ = syscall.Unmount(folder, syscall.MNT_DETACH) } // it may be gone

// ext4 makes a folder a real file system, in a file of its own.
func ext4(t *testing.T, folder string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20))
	for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop,errors=remount-ro", image, folder}} {
		if err == nil {
			var out []byte
			if out, err = exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
				err = fmt.Errorf("%v: %w: %s", args, err, out)
			}
		}
	}
	mounted(t, folder, err)
}

// shutDown has an ext4 answer everything with an I/O error, as one whose disk is gone.
func shutDown(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	const request, atOnce = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
	return errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), request, atOnce), f.Close())
}

// readOnly has an ext4 meet an error: it lets nobody write from then on.
func readOnly(folder string) error {
	var s unix.Stat_t
	if err := unix.Stat(folder, &s); err != nil {
		return err
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(s.Dev), unix.Minor(s.Dev)))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error"), []byte("1"), 0o600)
}
