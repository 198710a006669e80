package nodeservices

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/d8-registry/registry/internal/node/durable"
)

// inHost is a path of the host as a name in its root; empty if it is none.
func inHost(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// refused says by name what is not touched.
func refused(name, why string) error { return fmt.Errorf("/%s is left as it is: %s", name, why) }

// trusted returns nil if a name is a folder in which nobody but root can put anything, and so
// is each that it is in. The error is fs.ErrNotExist for the first that is not there.
func (k *Keeper) trusted(name string) error {
	at := ""
	for part := range strings.SplitSeq(name, "/") {
		at = path.Join(at, part)
		info, err := k.host.Lstat(at)
		if err != nil {
			return fmt.Errorf("look at /%s: %w", at, err)
		}
		owner, group := ownerOf(info)
		switch writable := info.Mode().Perm(); {
		case !info.IsDir():
			return refused(at, "it is no folder, but "+kind(info))
		case owner != os.Geteuid():
			return refused(at, fmt.Sprintf("it belongs to user %d", owner))
		case writable&0o002 != 0, writable&0o020 != 0 && group != os.Getegid():
			return refused(at, "others may write to it")
		}
	}
	return nil
}

// makeFolders makes a folder of root's, and those that it is in, where they are missing.
func (k *Keeper) makeFolders(name string) error {
	err := k.trusted(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if parent := path.Dir(name); parent != "." {
		if err := k.makeFolders(parent); err != nil {
			return err
		}
	}
	if err := k.host.Mkdir(name, 0o755); err != nil {
		return fmt.Errorf("make /%s: %w", name, err)
	}
	return k.sync(path.Dir(name))
}

// makeConfigDir makes the folder of the files. The store may read it, and change nothing in it.
func (k *Keeper) makeConfigDir() error {
	if err := k.makeFolders(configDir); err != nil {
		return err
	}
	info, err := k.host.Lstat(configDir)
	if err == nil && info.Mode().Perm() != 0o755 {
		err = k.give(configDir, os.Geteuid(), 0o755)
	}
	if err != nil {
		return fmt.Errorf("open /%s to the store: %w", configDir, err)
	}
	return nil
}

// makeDataDir makes the folder of what is kept the store's own. One that is there is taken
// only if it is the store's already, or root's with nothing in it: a path that was mistaken
// must not give away a folder of the node.
func (k *Keeper) makeDataDir(name string) error {
	if err := k.makeFolders(path.Dir(name)); err != nil {
		return err
	}
	info, err := k.host.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := k.host.Mkdir(name, 0o700); err != nil {
			return fmt.Errorf("make /%s: %w", name, err)
		}
		if err := k.sync(path.Dir(name)); err != nil {
			return err
		}
		info, err = k.host.Lstat(name)
	}
	if err != nil {
		return fmt.Errorf("look at /%s: %w", name, err)
	}
	owner, _ := ownerOf(info)
	switch {
	case !info.IsDir():
		return refused(name, "it is no folder, but "+kind(info))
	case k.hasDataDir(name):
		return nil
	case owner != k.user && owner != os.Geteuid():
		return refused(name, fmt.Sprintf("it belongs to user %d", owner))
	case owner != k.user:
		entries, err := k.host.ReadDir(name)
		if err != nil {
			return fmt.Errorf("look into /%s: %w", name, err)
		}
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != "lost+found" }) {
			return refused(name, "it is root's, and not empty")
		}
	}
	if err := k.give(name, k.user, 0o700); err != nil {
		return fmt.Errorf("give /%s to the store: %w", name, err)
	}
	return nil
}

// hasDataDir reports whether makeDataDir has nothing to do.
func (k *Keeper) hasDataDir(name string) bool {
	info, err := k.host.Lstat(name)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		return false
	}
	owner, group := ownerOf(info)
	return owner == k.user && group == k.user
}

// read is a file of ours; nil if there is none. Anything else by that name is refused: to read
// a pipe is to wait.
func (k *Keeper) read(name string) ([]byte, fs.FileInfo, error) {
	info, err := k.host.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look at /%s: %w", name, err)
	}
	owner, _ := ownerOf(info)
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, nil, refused(name, "it is no file, but "+kind(info))
	case owner != k.user && owner != os.Geteuid():
		return nil, nil, refused(name, fmt.Sprintf("it belongs to user %d", owner))
	case ok && stat.Nlink != 1:
		return nil, nil, refused(name, "it has another name too")
	case info.Size() > maxFile:
		return nil, nil, refused(name, fmt.Sprintf("it has %d bytes", info.Size()))
	}
	data, err := k.host.ReadFile(name)
	if err != nil {
		return nil, nil, fmt.Errorf("read /%s: %w", name, err)
	}
	return data, info, nil
}

// file is one of ours, as it should be. Without data there should be none.
type file struct {
	name, temp string // temp is its name until it is complete
	data       []byte
	user       int // for whom alone it is
}

// is reports whether a file is as it should be, and whether there is one.
func (k *Keeper) is(f file) (same, there bool, err error) {
	data, info, err := k.read(f.name)
	if err != nil || info == nil {
		return len(f.data) == 0, false, err
	}
	owner, group := ownerOf(info)
	return len(f.data) > 0 && bytes.Equal(data, f.data) && info.Mode() == 0o600 && owner == f.user && (owner != k.user || group == k.user), true, nil
}

// put makes a file what it should be, without flushing its folder, and reports whether it had
// to.
func (k *Keeper) put(f file) (changed bool, err error) {
	same, _, err := k.is(f)
	switch {
	case err != nil:
		return false, err
	case len(f.data) == 0:
		return k.drop(f)
	case same:
		return k.unlink(f.temp) // of a process that was killed
	}
	err = durable.Swap(k.host, durable.File{
		Name: f.name, Temp: f.temp, Data: f.data, Attributes: durable.Attributes{Owner: &durable.Owner{UID: f.user, GID: f.user}},
	})
	if err != nil {
		return false, fmt.Errorf("write /%s: %w", f.name, err)
	}
	return true, nil
}

// drop removes a file, without flushing its folder, and reports whether there was anything.
func (k *Keeper) drop(f file) (bool, error) {
	temp, err := k.unlink(f.temp)
	if err != nil {
		return false, err
	}
	name, err := k.unlink(f.name)
	return temp || name, err
}

func (k *Keeper) unlink(name string) (bool, error) {
	if _, err := k.host.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err := k.host.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove /%s: %w", name, err)
	}
	return true, nil
}

func (k *Keeper) sync(folder string) error {
	if err := k.host.SyncDir(folder); err != nil {
		return fmt.Errorf("save /%s: %w", folder, err)
	}
	return nil
}

func ownerOf(info fs.FileInfo) (user, group int) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid), int(stat.Gid)
	}
	return -1, -1
}

func deviceOf(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Dev
	}
	return 0
}

// kind is what something is that is not what it should be.
func kind(info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case mode.IsDir():
		return "a folder"
	case mode.IsRegular():
		return "a file"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	}
	return "something else"
}
