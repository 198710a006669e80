package agent

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher notices changes in containerd's host directory and configuration. If
// the kernel has no inotify watches left, a change is found at the next proof.
type watcher struct {
	log *slog.Logger
	fs  *fsnotify.Watcher // nil without inotify

	mu     sync.Mutex
	hosts  []string
	config []string
}

func newWatcher(log *slog.Logger) *watcher {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("changes by hand are only found at the next proof", "err", err)
	}
	return &watcher{log: log, fs: w}
}

// watchHosts and watchConfig say which directories matter from now on. One that
// does not exist is tried again at the next call.
func (w *watcher) watchHosts(dirs []string)  { w.watch(&w.hosts, dirs) }
func (w *watcher) watchConfig(dirs []string) { w.watch(&w.config, dirs) }

func (w *watcher) watch(list *[]string, dirs []string) {
	if w.fs == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = dirs
	wanted := append(slices.Clone(w.hosts), w.config...)
	for _, old := range w.fs.WatchList() {
		if !slices.Contains(wanted, old) {
			_ = w.fs.Remove(old) // gone already
		}
	}
	for _, dir := range wanted {
		_ = w.fs.Add(dir) // not there yet; its parent is watched
	}
}

// settle is the time without a change that ends a burst of changes.
const settle = 50 * time.Millisecond

// run calls changed after every burst of changes; config is set if one of them
// may matter to containerd's configuration.
func (w *watcher) run(ctx context.Context, changed func(config bool)) {
	if w.fs == nil {
		return
	}
	defer func() { _ = w.fs.Close() }()
	var quiet <-chan time.Time
	config := false
	for {
		select {
		case event := <-w.fs.Events:
			config = config || w.isConfig(event.Name)
			quiet = time.After(settle)
		case err := <-w.fs.Errors:
			w.log.Warn("changes by hand may be missed", "err", err)
			quiet = time.After(settle)
		case <-quiet:
			changed(config)
			quiet, config = nil, false
		case <-ctx.Done():
			return
		}
	}
}

func (w *watcher) isConfig(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch filepath.Ext(path) {
	case ".toml", ".d": // conf.d is watched itself only once it is there
		return slices.Contains(w.config, filepath.Dir(path)) || slices.Contains(w.config, path)
	default:
		return slices.Contains(w.config, path)
	}
}
