package handoff

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
)

// Hold is the state directory of who uses it. It is not removed before Close: not under
// a serve that still drains, nor under the agent of a next Pod.
type Hold struct {
	StateDir
	serves *os.File // serve's directory, with a lock that all who use it share
}

// removal is longer than a directory takes to be removed. Who waits longer says so, and
// is started anew: a hung disk, or somebody who is not us, holds it alone.
const removal = time.Minute

// Use is Open for each half of an agent, for as long as it runs. It waits while the
// directory is being removed, and makes it anew: as Prepare does if serve has a user of
// its own, who could not use what Open makes. user is 0 otherwise.
func Use(ctx context.Context, dir string, user int) (*Hold, error) {
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	for {
		f, err := ready(dir, user)
		if err != nil {
			return nil, err
		}
		serves, err := os.OpenFile(f.servePath(""), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_DIRECTORY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open state folder: %w", err)
		}
		h := &Hold{StateDir: f, serves: serves}
		if err := durable.Share(ctx, serves); err != nil {
			h.Close()
			return nil, fmt.Errorf("wait for the state folder: %w", err)
		}
		if h.there() {
			return h, nil
		}
		h.Close() // it was removed while we waited
	}
}

func ready(dir string, user int) (StateDir, error) {
	if user == 0 {
		return Open(dir)
	}
	return Existing(dir), Prepare(dir, user)
}

// there reports whether the directory that is held is the one that has the name.
func (h *Hold) there() bool {
	held, err := h.serves.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(h.servePath(""))
	return err == nil && os.SameFile(held, named)
}

// Close lets go of the directory.
func (h *Hold) Close() { _ = h.serves.Close() }

// Remove removes everything and the directory itself, when nobody else uses it any more.
// outside is its path outside of the container: inside it is a mount, which cannot be
// removed. A serve that has ended meanwhile may have saved a layout: then all stays.
func (h *Hold) Remove(ctx context.Context, outside string) error {
	if err := durable.Lock(ctx, h.serves); err != nil {
		return fmt.Errorf("remove state folder: wait for who uses it: %w", err)
	}
	if _, err := h.Layout(); !errors.Is(err, fs.ErrNotExist) {
		return errors.New("remove state folder: there is a layout in it")
	}
	inside, err := os.Stat(h.dir)
	if err != nil {
		return fmt.Errorf("remove state folder: %w", err)
	}
	if same, err := os.Stat(outside); err != nil || !os.SameFile(inside, same) {
		return fmt.Errorf("remove state folder: %s is not the same as %s", outside, h.dir)
	}
	everything := func(string) bool { return false }
	if err := errors.Join(removeContents(h.dir, func(name string) bool { return name == dirServe }), removeContents(h.servePath(""), everything)); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Join(outside, dirServe), outside} {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove state folder: %w", err)
		}
	}
	return nil
}
