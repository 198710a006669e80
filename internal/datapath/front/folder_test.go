package front

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/front/fronttest"
	"github.com/d8-registry/registry/internal/datapath/regauth"
)

func keys() []string {
	return []string{v1alpha1.KeyProxyLayout, v1alpha1.KeyProxyUsers, KeyCertificate, KeyKey}
}

// followed is what became of a folder that is followed.
type followed struct {
	t      *testing.T
	path   string
	loaded *Loaded
	mu     sync.Mutex
	times  int
}

// followFolder follows a folder that is not there yet, in one that is.
func followFolder(t *testing.T, change func(*folder)) *followed {
	t.Helper()
	f := &followed{t: t, path: filepath.Join(t.TempDir(), "registry"), loaded: newTestLoaded(t)}
	// So that only events, or only looks, can be what finds a change.
	of := folder{f.path, keys(), slog.New(slog.NewTextHandler(t.Output(), nil)), fsnotify.NewWatcher, time.Hour}
	if change != nil {
		change(&of)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		of.source(ctx, func(c Content) {
			f.loaded.Apply(c)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.times++
		})
	}()
	t.Cleanup(func() { stop(); <-ended })
	return f
}

// is waits until what is served by, and the problem, are these.
func (f *followed) is(generation int64, problem string) {
	f.t.Helper()
	var s Status
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		s = f.loaded.Status()
		if s.Generation == generation && (s.Problem == nil) == (problem == "") && (s.Problem == nil || strings.Contains(s.Problem.Error(), problem)) {
			return
		}
	}
	f.t.Fatalf("generation %d with problem %v; want %d with %q", s.Generation, s.Problem, generation, problem)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAFolderIsFollowed(t *testing.T) {
	t.Parallel()
	f := followFolder(t, nil)
	f.is(0, "no such file or directory")
	if f.loaded.Ready() == nil {
		t.Error("ready without a folder")
	}
	must(t, os.Mkdir(f.path, 0o700))
	f.is(0, "layout: is missing")
	data := fronttest.Content(t, 1, someUpstream)
	fronttest.WriteFiles(t, f.path, data)
	f.is(1, "")
	must(t, f.loaded.Ready())
	if want := regauth.Fingerprint(data[v1alpha1.KeyProxyUsers], data[KeyCertificate]); f.loaded.Status().Identity != want {
		t.Error("its identity is not that of its files")
	}

	// Another folder in its place.
	next := f.path + ".next"
	must(t, os.Mkdir(next, 0o700))
	fronttest.WriteFiles(t, next, fronttest.Content(t, 2, someUpstream))
	must(t, os.Rename(f.path, f.path+".old"))
	f.is(1, "no such file or directory")
	must(t, os.Rename(next, f.path))
	f.is(2, "")
	fronttest.WriteFiles(t, f.path, fronttest.Content(t, 3, someUpstream))
	f.is(3, "") // the new one is followed too

	// Without it all stays as it is.
	must(t, os.Rename(f.path, f.path+".gone")) // at once: file by file they would be missing
	f.is(3, "no such file or directory")
	must(t, f.loaded.Ready())
	if s := f.loaded.Status(); s.Identity == "" || strings.Contains(s.Problem.Error(), "missing") {
		t.Errorf("users and certificate are in use as before: %+v", s)
	}
	must(t, os.WriteFile(f.path, nil, 0o600))
	f.is(3, "not a directory")
	must(t, os.Remove(f.path))
	must(t, os.Mkdir(f.path, 0o700))
	fronttest.WriteFiles(t, f.path, fronttest.Content(t, 4, someUpstream))
	f.is(4, "")
}

// TestHalfOfASet: certificate and key are two files, and come one after the other.
func TestHalfOfASet(t *testing.T) {
	t.Parallel()
	f := followFolder(t, nil)
	must(t, os.Mkdir(f.path, 0o700))
	data := fronttest.Content(t, 1, someUpstream)
	fronttest.WriteFiles(t, f.path, data)
	f.is(1, "")
	before, err := f.loaded.cert.GetCertificate(nil)
	must(t, err)
	certificate, key := fronttest.Certificate(t)
	fronttest.WriteFiles(t, f.path, map[string][]byte{KeyCertificate: certificate})
	f.is(1, "private key does not match")
	if now, err := f.loaded.cert.GetCertificate(nil); err != nil || now != before {
		t.Errorf("half of a certificate is used: %v", err)
	}
	if f.loaded.Status().Identity != "" {
		t.Error("it claims to use what is half there")
	}
	fronttest.WriteFiles(t, f.path, map[string][]byte{KeyKey: key})
	f.is(1, "")
	if now, err := f.loaded.cert.GetCertificate(nil); err != nil || now == before {
		t.Errorf("the other half is not used: %v", err)
	}
}

// TestLinksAsKubernetesMakesThem: all files change with one rename.
func TestLinksAsKubernetesMakesThem(t *testing.T) {
	t.Parallel()
	f := followFolder(t, nil)
	must(t, os.Mkdir(f.path, 0o700))
	for generation := range int64(3) {
		stamp := "..2026_12_0" + string(rune('1'+generation))
		must(t, os.Mkdir(filepath.Join(f.path, stamp), 0o700))
		fronttest.WriteFiles(t, filepath.Join(f.path, stamp), fronttest.Content(t, generation+1, someUpstream))
		must(t, os.Symlink(stamp, filepath.Join(f.path, "..data_tmp")))
		must(t, os.Rename(filepath.Join(f.path, "..data_tmp"), filepath.Join(f.path, "..data")))
		for _, key := range keys() {
			if generation == 0 {
				must(t, os.Symlink("..data/"+key, filepath.Join(f.path, key)))
			}
		}
		f.is(generation+1, "")
	}
}

// TestWhatIsNoFileOfTheFolder is not read, and not waited for; the rest is served.
func TestWhatIsNoFileOfTheFolder(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	fronttest.WriteFiles(t, outside, fronttest.Content(t, 9, someUpstream))
	for name, tc := range map[string]struct {
		put     func(path string) error
		problem string
	}{
		"a link that leads out": {func(path string) error { return os.Symlink(filepath.Join(outside, "layout"), path) }, "escapes"},
		"a link that climbs out": {func(path string) error {
			from, err := filepath.Rel(filepath.Dir(path), outside)
			return errors.Join(err, os.Symlink(filepath.Join(from, "layout"), path))
		}, "escapes"},
		"a link to itself":  {func(path string) error { return os.Symlink("layout", path) }, "layout: "},
		"a link to nothing": {func(path string) error { return os.Symlink("nothing", path) }, "layout: is missing"},
		"a pipe":            {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "no file"},
		"a folder":          {func(path string) error { return os.Mkdir(path, 0o700) }, "no file"},
		"too large": {func(path string) error {
			return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, mostFile+1))
		}, "more than"},
		"empty":                {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "layout: is missing"},
		"nothing":              {func(string) error { return nil }, "layout: is missing"},
		"cut off in mid-write": {func(path string) error { return os.WriteFile(path, []byte("schema: 1\ngenera"), 0o600) }, "layout: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := followFolder(t, nil)
			must(t, os.Mkdir(f.path, 0o700))
			fronttest.WriteFiles(t, f.path, fronttest.Content(t, 1, someUpstream))
			f.is(1, "")
			file := filepath.Join(f.path, "layout")
			must(t, os.Remove(file))
			must(t, tc.put(file))
			f.is(1, tc.problem)
			must(t, f.loaded.Ready())
			if f.loaded.Status().Identity == "" {
				t.Error("users and certificate are said to be wrong too")
			}
			must(t, os.RemoveAll(file))
			fronttest.WriteFiles(t, f.path, fronttest.Content(t, 2, someUpstream))
			f.is(2, "")
		})
	}
}

// TestAMissedChangeIsFound without being told, and what did not change is not told of again.
func TestAMissedChangeIsFound(t *testing.T) {
	t.Parallel()
	f := followFolder(t, func(of *folder) {
		of.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
		of.every = 20 * time.Millisecond
	})
	must(t, os.Mkdir(f.path, 0o700))
	for generation := range int64(2) {
		fronttest.WriteFiles(t, f.path, fronttest.Content(t, generation+1, someUpstream))
		f.is(generation+1, "")
	}
	told := func() int { f.mu.Lock(); defer f.mu.Unlock(); return f.times }
	for deadline := time.Now().Add(10 * time.Second); ; { // files come one after the other
		before := told()
		if <-time.After(200 * time.Millisecond); told() == before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it is told on and on that nothing changed, %d times", told())
		}
	}
}
