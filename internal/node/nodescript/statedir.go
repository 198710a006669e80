package nodescript

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
)

// What is in the state directory. Only root may read it.
const (
	stepsDir    = "steps"  // scripts, as they run
	outputDir   = "output" // what each printed last
	eventsDir   = "events" // what is still to be handled
	flagsDir    = "flags"  // scripts' flags
	tmpDir      = "tmp"    // scripts' temporary files
	libraryFile = "library.bash"
	lockFile    = "lock"         // held by the agent that runs scripts
	doneFile    = "done.json"    // the last complete run
	runningFile = "running.json" // the script that runs now
)

// tempPrefix begins the name of a file that is not complete.
const tempPrefix = ".next-"

// done is the last run that was completed.
type done struct {
	Checksum string    `json:"checksum"`
	BootID   string    `json:"bootID"`
	At       time.Time `json:"at"`
}

// running is a script that was started.
type running struct {
	Group  int    `json:"group"` // its process group
	Mark   string `json:"mark"`  // in the environment of all of its processes
	BootID string `json:"bootID"`
}

// stateDir is the directory in which everything about scripts is kept. Nothing
// outside of it is reached through it.
type stateDir struct {
	root *os.Root
	fsys durable.FS // the same, for what must survive a crash
	path string     // as the host sees it
}

func openStateDir(host Host, dir string) (*stateDir, error) {
	here := filepath.Join(host.Root, dir)
	if err := os.MkdirAll(here, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of scripts: %w", err)
	}
	in, err := durable.OpenDir(here)
	if err != nil {
		return nil, fmt.Errorf("open the folder of scripts: %w", err)
	}
	f := &stateDir{root: in.Root(), fsys: in, path: dir}
	if err := f.setUp(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// setUp makes what every script may use.
func (f *stateDir) setUp() error {
	for _, sub := range []string{".", stepsDir, outputDir, eventsDir, flagsDir, tmpDir} {
		if err := f.root.MkdirAll(sub, 0o700); err != nil {
			return fmt.Errorf("make %s: %w", f.onHost(sub), err)
		}
		if err := f.root.Chmod(sub, 0o700); err != nil {
			return fmt.Errorf("close %s to others: %w", f.onHost(sub), err)
		}
	}
	return f.write(libraryFile, library, 0o600)
}

func (f *stateDir) close() error { return f.root.Close() }

// lock waits until no other agent runs scripts with this directory: the agent of a
// Pod that was deleted by force may still do so. unlock is never nil.
func (f *stateDir) lock(ctx context.Context) (unlock func(), err error) {
	file, err := f.root.OpenFile(lockFile, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return func() {}, fmt.Errorf("open %s: %w", f.onHost(lockFile), err)
	}
	err = durable.Lock(ctx, file)
	if err == nil {
		f.clean()
	}
	return func() { _ = file.Close() }, err
}

// clean removes what a crash left of files that were being written. Only who has the
// lock does: others may be about to rename theirs.
func (f *stateDir) clean() {
	for _, dir := range []string{".", stepsDir} {
		for _, name := range f.list(dir) {
			if strings.HasPrefix(name, tempPrefix) {
				_ = f.root.Remove(path.Join(dir, name)) // it is in nobody's way
			}
		}
	}
}

func (f *stateDir) onHost(name string) string { return path.Join(f.path, name) }

// write replaces a file in one step and returns when that is on disk. The name
// of the temporary file is a new one each time: another agent, which still has
// the lock, may write the same file.
func (f *stateDir) write(name string, data []byte, mode os.FileMode) error {
	err := durable.Replace(f.fsys, durable.File{
		Name: name, Temp: path.Join(path.Dir(name), tempPrefix+rand.Text()[:8]),
		Data: data, Attributes: durable.Attributes{Mode: &mode},
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.onHost(name), err)
	}
	return nil
}

// prepare makes the directory ready for one script.
func (f *stateDir) prepare(s script) error {
	if err := f.empty(tmpDir); err != nil {
		return err
	}
	// A handler that was killed or failed has not handled its event.
	for _, name := range f.list(eventsDir) {
		if open, cut := strings.CutPrefix(name, "."); cut {
			if err := f.root.Rename(eventsDir+"/"+name, eventsDir+"/"+open); err != nil {
				return fmt.Errorf("take up event %s again: %w", open, err)
			}
		}
	}
	return f.write(stepsDir+"/"+s.file(), []byte(s.content), 0o700)
}

// sweep removes files of scripts that are not in the plan.
func (f *stateDir) sweep(p plan) {
	keep := map[string]bool{}
	for _, s := range p.scripts {
		keep[stepsDir+"/"+s.file()] = true
		keep[outputDir+"/"+s.file()+".log"] = true
	}
	for _, dir := range []string{stepsDir, outputDir} {
		for _, name := range f.list(dir) {
			if !keep[dir+"/"+name] {
				_ = f.root.Remove(dir + "/" + name) // the next sweep tries again
			}
		}
	}
}

// complete records that all scripts of a plan are done. Events that no script
// handled in a complete run are removed.
func (f *stateDir) complete(d done) error {
	if err := f.empty(eventsDir); err != nil {
		return err
	}
	// After a power cut they must not be there beside the note that all is done.
	if err := f.fsys.SyncDir(eventsDir); err != nil {
		return fmt.Errorf("save %s: %w", f.onHost(eventsDir), err)
	}
	return f.note(doneFile, d)
}

// last is the last complete run; zero if there is none that can be read.
func (f *stateDir) last() done {
	var d done
	if data, err := f.root.ReadFile(doneFile); err != nil || json.Unmarshal(data, &d) != nil {
		return done{}
	}
	return d
}

func (f *stateDir) noteRunning(r running) error { return f.note(runningFile, r) }

func (f *stateDir) note(name string, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return f.write(name, data, 0o600)
}

func (f *stateDir) forgetRunning() { _ = f.root.Remove(runningFile) } // a group that has gone is no harm

// interrupted is the script that an earlier agent left running.
func (f *stateDir) interrupted() (running, bool) {
	var r running
	data, err := f.root.ReadFile(runningFile)
	if err != nil || json.Unmarshal(data, &r) != nil || r.Mark == "" || r.Group <= 1 {
		return running{}, false
	}
	return r, true
}

func (f *stateDir) empty(dir string) error {
	for _, name := range f.list(dir) {
		if err := f.root.RemoveAll(dir + "/" + name); err != nil {
			return fmt.Errorf("empty %s: %w", f.onHost(dir), err)
		}
	}
	return nil
}

func (f *stateDir) list(dir string) []string {
	entries, err := fs.ReadDir(f.root.FS(), dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
