package durabletest

import (
	"errors"
	"io/fs"

	"github.com/d8-registry/registry/internal/node/durable"
)

// FS is a file system whose changes a test sees, and may make fail.
type FS struct {
	durable.FS
	// Before is called with each change before it happens, and says how it goes.
	// Nil lets all changes happen.
	Before func(c Change) Fault
	// Reads is asked before each operation that changes nothing. Nil lets all
	// happen.
	Reads func() error
	// Changes are all changes up to now, in order, those that failed included.
	Changes []Change
}

// Change is one operation that changes files.
type Change struct {
	Op Op
	// Name is the file; of a rename the new name.
	Name string
}

// String is the change as tests print it: "rename a/hosts.toml".
func (c Change) String() string { return string(c.Op) + " " + c.Name }

// Op is the kind of a change.
type Op string

// The changes that durable.FS has.
const (
	Mkdir   Op = "mkdir"
	Write   Op = "write"
	Rename  Op = "rename"
	Remove  Op = "remove"
	SyncDir Op = "sync"
)

// Fault is how a change goes wrong. The zero Fault is a change that happens.
type Fault struct {
	Err    error
	Effect Effect
}

// Effect is what happens to the file although the operation fails.
type Effect int

// The ways in which an operation can fail. Torn and Bare are for writes; other
// operations are not done then.
const (
	Nothing Effect = iota // it is not done
	Done                  // it is done completely
	Torn                  // half of the content is written
	Bare                  // the content is written, but the attributes are not
)

// Mkdir implements durable.FS.
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.change(Mkdir, name, func() error { return f.FS.Mkdir(name, perm) })
}

// WriteFile implements durable.FS.
func (f *FS) WriteFile(name string, data []byte, a durable.Attributes) error {
	fault := f.next(Write, name)
	switch {
	case fault.Err == nil || fault.Effect == Done:
		return errors.Join(f.FS.WriteFile(name, data, a), fault.Err)
	case fault.Effect == Torn:
		return errors.Join(f.FS.WriteFile(name, data[:len(data)/2], durable.Attributes{}), fault.Err)
	case fault.Effect == Bare:
		return errors.Join(f.FS.WriteFile(name, data, durable.Attributes{}), fault.Err)
	}
	return fault.Err
}

// Rename implements durable.FS.
func (f *FS) Rename(from, to string) error {
	return f.change(Rename, to, func() error { return f.FS.Rename(from, to) })
}

// Remove implements durable.FS.
func (f *FS) Remove(name string) error {
	return f.change(Remove, name, func() error { return f.FS.Remove(name) })
}

// SyncDir implements durable.FS.
func (f *FS) SyncDir(dir string) error {
	return f.change(SyncDir, dir, func() error { return f.FS.SyncDir(dir) })
}

func (f *FS) change(op Op, name string, do func() error) error {
	fault := f.next(op, name)
	if fault.Err == nil || fault.Effect == Done {
		return errors.Join(do(), fault.Err)
	}
	return fault.Err
}

func (f *FS) next(op Op, name string) Fault {
	c := Change{op, name}
	f.Changes = append(f.Changes, c)
	if f.Before == nil {
		return Fault{}
	}
	return f.Before(c)
}

// ReadFile implements durable.FS.
func (f *FS) ReadFile(name string) ([]byte, error) {
	return read(f, func() ([]byte, error) { return f.FS.ReadFile(name) })
}

// ReadDir implements durable.FS.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	return read(f, func() ([]fs.DirEntry, error) { return f.FS.ReadDir(name) })
}

// Lstat implements durable.FS.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	return read(f, func() (fs.FileInfo, error) { return f.FS.Lstat(name) })
}

// Readlink implements durable.FS.
func (f *FS) Readlink(name string) (string, error) {
	return read(f, func() (string, error) { return f.FS.Readlink(name) })
}

func read[T any](f *FS, do func() (T, error)) (T, error) {
	if f.Reads != nil {
		if err := f.Reads(); err != nil {
			var nothing T
			return nothing, err
		}
	}
	return do()
}
