package disktest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"syscall"
	"time"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

// ErrKilled is the end of every operation of a process that is dead.
var ErrKilled = errors.New("the process was killed")

// Op is the kind of a Step.
type Op string

// The steps: all changes that disk.FS has.
const (
	Create  Op = "create"
	Mkdir   Op = "mkdir"
	Rename  Op = "rename"
	Remove  Op = "remove"
	SyncDir Op = "sync folder"
	Write   Op = "write"
	Sync    Op = "sync"
	Seal    Op = "seal"
)

// Step is one change that a process makes.
type Step struct {
	N    int // from 1
	Op   Op
	Name string // of a rename the old one
}

// String is the step as tests print it.
func (s Step) String() string { return fmt.Sprintf("%d: %s %s", s.N, s.Op, s.Name) }

// Fault is how a step goes wrong. The zero Fault is a step that is done.
type Fault struct {
	// Err is what it ends with. A Sync that fails has lost what was not on disk, and the next
	// one does not know.
	Err    error
	Effect Effect
}

// Effect is what a step does although it fails.
type Effect int

// Half is for writes; other steps do nothing then.
const (
	Nothing Effect = iota
	Half
	Done
)

// Kill is a fault that ends the process at a step.
func Kill(at int, effect Effect) func(Step) Fault {
	return func(s Step) Fault {
		if s.N == at {
			return Fault{ErrKilled, effect}
		}
		return Fault{}
	}
}

// Process is a disk.FS that has a disk until it is killed.
type Process struct {
	disk  *Disk
	fault func(Step) Fault
	power int // the run of the machine that it belongs to
	dead  bool
	steps []Step
}

// Process begins one. Fault is asked before each step, while nothing else is done on the
// disk; nil lets all be done. ErrKilled ends the process.
func (d *Disk) Process(fault func(Step) Fault) *Process {
	if fault == nil {
		fault = func(Step) Fault { return Fault{} }
	}
	return &Process{disk: d, fault: fault, power: d.power}
}

// Kill ends the process: all that it did is there, and its locks are free.
func (p *Process) Kill() {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	p.die()
}

func (p *Process) die() {
	p.dead = true
	maps.DeleteFunc(p.disk.locks, func(_ string, has *Process) bool { return has == p })
}

// Dead reports whether it was killed.
func (p *Process) Dead() bool {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	return p.gone()
}

func (p *Process) gone() bool { return p.dead || p.power != p.disk.power }

// Steps are those up to now.
func (p *Process) Steps() []Step {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	return slices.Clone(p.steps)
}

// step does one, as far as its fault lets it. The disk is locked.
func (p *Process) step(op Op, name string, do func(Effect) error) error {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	if p.gone() {
		return ErrKilled
	}
	s := Step{len(p.steps) + 1, op, name}
	p.steps = append(p.steps, s)
	fault := p.fault(s)
	if fault.Err == nil {
		return do(Done)
	}
	killed := errors.Is(fault.Err, ErrKilled)
	if fault.Effect != Nothing || op == Sync && !killed {
		_ = do(fault.Effect)
	}
	if killed {
		p.die()
		return ErrKilled
	}
	return &fs.PathError{Op: string(op), Path: name, Err: fault.Err}
}

// whole is for steps of which there is no half.
func whole(do func() error) func(Effect) error {
	return func(e Effect) error {
		if e != Done {
			return nil
		}
		return do()
	}
}

// read does something that changes nothing.
func (p *Process) read(do func() error) error {
	p.disk.mu.Lock()
	defer p.disk.mu.Unlock()
	if p.gone() {
		return ErrKilled
	}
	return do()
}

// ReadDir implements disk.FS.
func (p *Process) ReadDir(name string) (all []fs.DirEntry, err error) {
	err = p.read(func() error {
		n, err := p.folder("readdir", name)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			child := n.names[name]
			all = append(all, fs.FileInfoToDirEntry(info{name, child.mode, int64(len(child.data))}))
		}
		return nil
	})
	return all, err
}

func (p *Process) folder(op, name string) (*node, error) {
	n, err := p.disk.find(op, name)
	if err == nil && !n.mode.IsDir() {
		err = &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return n, err
}

// Open implements disk.FS.
func (p *Process) Open(name string) (disk.File, error) { return p.open(name, false) }

// Edit implements disk.FS.
func (p *Process) Edit(name string) (disk.File, error) { return p.open(name, true) }

func (p *Process) open(name string, edit bool) (f disk.File, err error) {
	err = p.read(func() error {
		n, err := p.disk.find("open", name)
		switch {
		case err != nil:
			return err
		case !n.mode.IsRegular():
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
		case edit && n.mode&0o200 == 0:
			return &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
		}
		n.opens++
		f = &file{p: p, n: n, name: name, edit: edit}
		return nil
	})
	return f, err
}

// Create implements disk.FS.
func (p *Process) Create(name string) (f disk.File, err error) {
	err = p.step(Create, name, whole(func() error {
		n := &node{mode: 0o600}
		if err := p.add(Create, name, n); err != nil {
			return err
		}
		n.opens++
		f = &file{p: p, n: n, name: name, edit: true}
		return nil
	}))
	return f, err
}

// Mkdir implements disk.FS.
func (p *Process) Mkdir(name string) error {
	if err := p.read(func() error { _, err := p.folder("mkdir", name); return err }); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.step(Mkdir, name, whole(func() error { return p.add(Mkdir, name, folder()) }))
}

func (p *Process) add(op Op, name string, n *node) error {
	in, err := p.folder(string(op), path.Dir(name))
	if err != nil {
		return err
	}
	if in.names[path.Base(name)] != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: fs.ErrExist}
	}
	in.set(path.Base(name), n)
	return nil
}

// Rename implements disk.FS.
func (p *Process) Rename(from, to string) error {
	return p.step(Rename, from, whole(func() error {
		n, err := p.disk.find("rename", from)
		if err != nil {
			return err
		}
		in, err := p.folder("rename", path.Dir(to))
		if err != nil {
			return err
		}
		if old := in.names[path.Base(to)]; old != nil {
			if old.mode.IsDir() || n.mode.IsDir() {
				return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
			}
			old.links--
			p.disk.drop(old)
		}
		in.set(path.Base(to), n)
		out, _ := p.disk.find("rename", path.Dir(from))
		out.set(path.Base(from), nil)
		n.links--
		return nil
	}))
}

// Remove implements disk.FS.
func (p *Process) Remove(name string) error {
	return p.step(Remove, name, whole(func() error {
		n, err := p.disk.find("remove", name)
		if err != nil {
			return err
		}
		if len(n.names) > 0 {
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		in, _ := p.disk.find("remove", path.Dir(name))
		in.set(path.Base(name), nil)
		n.links--
		p.disk.drop(n)
		return nil
	}))
}

// SyncDir implements disk.FS.
func (p *Process) SyncDir(name string) error {
	return p.step(SyncDir, name, whole(func() error {
		n, err := p.folder("sync", name)
		if err == nil {
			n.syncNames()
		}
		return err
	}))
}

// Lock implements disk.FS.
func (p *Process) Lock(name string) (c io.Closer, err error) {
	err = p.read(func() error {
		if p.disk.locks[name] != nil {
			return disk.ErrInUse
		}
		p.disk.locks[name] = p
		c = lock{p, name}
		return nil
	})
	return c, err
}

type lock struct {
	p    *Process
	name string
}

func (l lock) Close() error {
	return l.p.read(func() error { delete(l.p.disk.locks, l.name); return nil })
}

// Space implements disk.FS.
func (p *Process) Space() (total, free int64, err error) {
	err = p.read(func() error {
		total, free = p.disk.total, max(p.disk.total-p.disk.used, 0)
		return nil
	})
	return total, free, err
}

// info is a fs.FileInfo.
type info struct {
	name string
	mode fs.FileMode
	size int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
