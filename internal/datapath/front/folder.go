package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// mostFile bounds what is read of a file, in bytes. A Secret may have half of it.
	mostFile = 2 << 20
	// settle is the time without a change that ends a burst of changes: a certificate and
	// its key are two files.
	settle = 50 * time.Millisecond
	// lookAgain is how often it is looked in any case: a change that nobody tells of, or
	// that is told of while the folder is being replaced, is found then.
	lookAgain = 10 * time.Second
)

// Folder is a Source of files, each named as its key and replaced by rename, one by one or,
// as Kubernetes does it, by a symbolic link to a folder of them beside. The folder may be
// made later, and replaced. Nothing outside of it is read.
func Folder(path string, keys []string, log *slog.Logger) Source {
	return folder{filepath.Clean(path), keys, log, fsnotify.NewWatcher, lookAgain}.source
}

type folder struct {
	path       string
	keys       []string
	log        *slog.Logger
	newWatcher func() (*fsnotify.Watcher, error)
	every      time.Duration
}

func (f folder) source(ctx context.Context, changed func(Content)) {
	w, err := f.newWatcher()
	if err == nil {
		defer func() { _ = w.Close() }()
	} else {
		f.log.Warn("changes of files are only found by looking", "folder", f.path, "every", f.every, "err", err)
		w = &fsnotify.Watcher{} // which tells of nothing
	}
	ticker := time.NewTicker(f.every)
	defer ticker.Stop()
	var last *Content
	for {
		if err == nil {
			follow(w, f.path) // before it is read: what changes from now on is told of
		}
		if c := f.read(); last == nil || !c.same(*last) {
			last = &c
			changed(c)
		}
		if !f.wait(ctx, w, ticker.C) {
			return
		}
	}
}

// wait returns after a burst of changes, or when it is time to look. It is false at the end.
func (f folder) wait(ctx context.Context, w *fsnotify.Watcher, look <-chan time.Time) bool {
	var quiet <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-w.Events:
			quiet = time.After(settle)
		case err := <-w.Errors:
			f.log.Warn("changes of files may be missed", "folder", f.path, "err", err)
			quiet = time.After(settle)
		case <-quiet:
			return true
		case <-look:
			return true
		}
	}
}

// follow watches a folder, and the one that it is in. The watch is made anew: the old one may
// be that of a folder that was moved away. The one that it is in comes first: else a folder
// that is made in between would be in no watch.
func follow(w *fsnotify.Watcher, path string) {
	for _, dir := range []string{filepath.Dir(path), path} {
		_ = w.Remove(dir) // it may not have been there
		_ = w.Add(dir)    // it may not be there yet
	}
}

// read is what the files hold. One that is not there is missing.
func (f folder) read() Content {
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return Content{Err: err}
	}
	defer func() { _ = root.Close() }()
	c := Content{Data: map[string][]byte{}, Unread: map[string]error{}}
	for _, key := range f.keys {
		data, err := readFile(root, key)
		switch {
		case err == nil:
			c.Data[key] = data
		case !errors.Is(err, fs.ErrNotExist):
			c.Unread[key] = err
		}
	}
	return c
}

// readFile reads a file in the folder, and neither waits for what is none, nor reads one
// without an end.
func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, mostFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > mostFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, mostFile)
	}
	return data, nil
}
