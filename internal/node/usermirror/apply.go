package usermirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// Result is what Apply did, or what Check found to do. Paths are as containerd
// sees them.
type Result struct {
	Written  []string // files that got our block, or got it back
	Restored []string // files that are the user's own again
	Problems []Problem
	// Edits are the same files with what is in them.
	Edits []Edit
	// Again says that a user is just writing a file, which was not touched: Apply is
	// to be called again in a moment.
	Again bool
}

// Edit is one file before and after. It may hold the users' secrets and the node's
// token.
type Edit struct {
	File          string // as containerd sees it
	Before, After []byte
}

// Changed reports whether anything was written.
func (r Result) Changed() bool { return len(r.Written)+len(r.Restored) > 0 }

const (
	fileRecord = ".registry-agent-blocks.json"
	tempSuffix = ".registry-agent" // no name that containerd reads
	// settleTime is how old a file must be before it is replaced: a program that
	// writes it truncates it first.
	settleTime = 50 * time.Millisecond
	// modeUnknown is for a file of which the mode was lost with our record. It may
	// hold a password.
	modeUnknown = fs.FileMode(0o600)
)

// Apply puts the marked blocks into the users' files, and takes out those that are
// not wanted. It may be killed at any operation: what containerd reads is complete
// at any moment, and the next Apply continues.
func (p Plan) Apply() (Result, error) {
	return p.run(func(dir durable.FS) durable.FS { return dir })
}

// Check is Apply without writing.
func (p Plan) Check() (Result, error) {
	return p.run(func(dir durable.FS) durable.FS { return durable.DryRun{FS: dir} })
}

func (p Plan) run(through func(durable.FS) durable.FS) (Result, error) {
	var all Result
	var errs []error
	for _, f := range p.dirs {
		real, err := p.disk.resolve(f.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("open %s: %w", f.path, err))
			continue
		}
		folder, err := hostsdir.OpenDir(real)
		if errors.Is(err, fs.ErrNotExist) {
			continue // nobody wrote anything there
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		a := &applier{fsys: through(folder), shown: f.path, plan: p, blocks: f.blocks, now: time.Now()}
		err = errors.Join(a.run(), folder.Close())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.path, err))
		}
		all.add(a.res)
	}
	return all, errors.Join(errs...)
}

func (r *Result) add(o Result) {
	r.Written, r.Restored = append(r.Written, o.Written...), append(r.Restored, o.Restored...)
	r.Problems, r.Again = append(r.Problems, o.Problems...), r.Again || o.Again
	r.Edits = append(r.Edits, o.Edits...)
}

// applier is one Apply in one directory.
type applier struct {
	fsys   durable.FS
	shown  string // the directory, as containerd sees it
	plan   Plan
	blocks []string
	now    time.Time
	record map[string]fs.FileMode // what the files with our block had before
	res    Result
}

// run writes first what must be there before a block: the CA that it names, and
// the record of the file's mode.
func (a *applier) run() error {
	if err := a.load(); err != nil {
		return err
	}
	entries, err := a.fsys.ReadDir(".")
	if err != nil {
		return fmt.Errorf("read the directory: %w", err)
	}
	if len(a.blocks) > 0 {
		if err := a.put(fileBlockCA, []byte(a.plan.agent.AgentCA), 0o644); err != nil {
			return err
		}
	}
	left := false // there is a block, wanted or because it could not be taken out
	var errs error
	for _, e := range entries {
		if e.IsDir() {
			with, err := a.file(e.Name(), slices.Contains(a.blocks, e.Name()))
			left, errs = left || with || err != nil, errors.Join(errs, err)
		}
	}
	if left {
		return errs
	}
	// No block names it any more.
	return errors.Join(a.remove(fileBlockCA), a.remove(fileRecord))
}

// file makes one user's file as wanted, and reports whether it has a block then.
func (a *applier) file(dir string, wanted bool) (with bool, err error) {
	name := path.Join(dir, fileHosts)
	if err := a.remove(name + tempSuffix); err != nil {
		return true, err // a leftover of a crash
	}
	info, err := a.fsys.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, a.forget(name)
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return false, nil
	}
	data, err := a.fsys.ReadFile(name)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	own, found := cut(data)
	if !wanted && !found {
		return false, a.forget(name)
	}
	next, mode, ok := a.wanted(name, own, wanted)
	if !ok {
		return found, nil
	}
	if bytes.Equal(next, data) && info.Mode().Perm() == mode {
		return wanted, nil
	}
	if a.now.Sub(info.ModTime()) < settleTime && a.now.After(info.ModTime()) {
		a.res.Again = true
		return found, nil
	}
	a.res.Edits = append(a.res.Edits, Edit{File: path.Join(a.shown, name), Before: data, After: next})
	return wanted, a.replace(name, info, next, mode, wanted)
}

// wanted is what a file should be; own is what the user wrote.
func (a *applier) wanted(name string, own []byte, wanted bool) (next []byte, mode fs.FileMode, ok bool) {
	if !wanted {
		return own, a.originalMode(name), true
	}
	next, err := insert(a.plan.dialect, own, a.plan.agent.AgentURL, a.plan.agent.Token)
	if err != nil {
		// It was changed after the plan was made; the next plan says what is wrong.
		a.res.Again = true
		return nil, 0, false
	}
	return next, 0o600, true
}

// replace replaces a user's file, and keeps the record of its mode.
func (a *applier) replace(name string, info fs.FileInfo, data []byte, mode fs.FileMode, wanted bool) error {
	where := path.Join(a.shown, name)
	if !wanted {
		a.res.Restored = append(a.res.Restored, where)
	} else {
		a.res.Written = append(a.res.Written, where)
		if err := a.remember(name, info.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := a.swap(name, info, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if !wanted && !a.res.Again {
		return a.forget(name)
	}
	return nil
}

// swap puts a new file in the place of the one that was looked at, if that is
// still there. It has the time of the user's file, so that the next Apply sees
// that nobody is writing it.
func (a *applier) swap(name string, info fs.FileInfo, data []byte, mode fs.FileMode) error {
	f := durable.File{
		Name: name, Temp: name + tempSuffix, Data: data,
		Attributes: durable.Attributes{Mode: &mode, Modified: info.ModTime()},
		Confirm: func() error {
			again, err := a.fsys.Lstat(name)
			if err != nil || !os.SameFile(info, again) || again.ModTime() != info.ModTime() || again.Size() != info.Size() {
				return errChanged
			}
			return nil
		},
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Attributes.Owner = &durable.Owner{UID: int(owner.Uid), GID: int(owner.Gid)}
	}
	err := durable.Replace(a.fsys, f)
	if errors.Is(err, errChanged) {
		a.res.Again = true
		return nil
	}
	return err
}

// errChanged: the user wrote the file after we looked at it. Their file stays.
var errChanged = errors.New("the file was changed meanwhile")

// load reads the record. A damaged one counts as none.
func (a *applier) load() error {
	data, err := a.fsys.ReadFile(fileRecord)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", fileRecord, err)
	}
	if err != nil || json.Unmarshal(data, &a.record) != nil || a.record == nil {
		a.record = map[string]fs.FileMode{}
	}
	return nil
}

// originalMode is the mode that a file had without our block.
func (a *applier) originalMode(name string) fs.FileMode {
	if mode, ok := a.record[name]; ok {
		return mode & fs.ModePerm
	}
	return modeUnknown
}

// remember records the mode that a user gave to their file. 0600 is our own, unless
// it is the first mode that we see.
func (a *applier) remember(name string, mode fs.FileMode) error {
	known, ok := a.record[name]
	if ok && (mode == 0o600 || mode == known) {
		return nil
	}
	a.record[name] = mode
	return a.save()
}

func (a *applier) forget(name string) error {
	if _, ok := a.record[name]; !ok {
		return nil
	}
	delete(a.record, name)
	return a.save()
}

func (a *applier) save() error {
	data, err := json.Marshal(a.record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", fileRecord, err)
	}
	return a.put(fileRecord, append(data, '\n'), 0o600)
}

// put replaces a file of ours in one step if content or mode differ.
func (a *applier) put(name string, data []byte, mode fs.FileMode) error {
	if info, err := a.fsys.Lstat(name); err == nil && info.Mode() == mode {
		if old, err := a.fsys.ReadFile(name); err == nil && bytes.Equal(old, data) {
			return nil
		}
	}
	f := durable.File{Name: name, Temp: name + tempSuffix, Data: data, Attributes: durable.Attributes{Mode: &mode}}
	if err := durable.Replace(a.fsys, f); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (a *applier) remove(name string) error {
	if err := durable.Remove(a.fsys, name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
