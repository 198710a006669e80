package disktest

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Disk is one disk, with one folder on it.
type Disk struct {
	mu    sync.Mutex
	root  *node
	locks map[string]*Process
	used  int64
	total int64
	power int // how often it was cut
}

// node is a file, a folder, or something strange.
type node struct {
	mode    fs.FileMode
	damaged bool // reads fail
	links   int
	opens   int

	// Of a folder: what programs see, what is on disk, and the changes between, in order.
	names, kept map[string]*node
	changes     []change

	// Of a file: the same.
	data, disk []byte
	writes     []write
}

type change struct {
	name string
	node *node // nil: removed
}

type write struct {
	at   int
	data []byte
}

// sector is what a disk writes at once.
const sector = 512

// New is an empty disk with a lot of space.
func New() *Disk {
	return &Disk{root: folder(), locks: map[string]*Process{}, total: 1 << 40}
}

func folder() *node {
	return &node{mode: fs.ModeDir | 0o750, names: map[string]*node{}, kept: map[string]*node{}}
}

// SetFree says how many bytes can still be written. Files count by their size, holes too.
func (d *Disk) SetFree(free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.total = d.used + free
}

// Clone is the same disk again, for another power cut. It has no processes.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &Disk{root: d.root.clone(map[*node]*node{}), locks: map[string]*Process{}, used: d.used, total: d.total}
}

func (n *node) clone(done map[*node]*node) *node {
	if n == nil || done[n] != nil {
		return done[n]
	}
	c := *n
	done[n] = &c
	c.data, c.disk, c.writes = slices.Clone(n.data), slices.Clone(n.disk), slices.Clone(n.writes)
	c.names, c.kept, c.changes = maps.Clone(n.names), maps.Clone(n.kept), slices.Clone(n.changes)
	for name, child := range c.names {
		c.names[name] = child.clone(done)
	}
	for name, child := range c.kept {
		c.kept[name] = child.clone(done)
	}
	for i := range c.changes {
		c.changes[i].node = c.changes[i].node.clone(done)
	}
	return &c
}

// PowerCut ends all processes. What was synced is left, and by the seed any part of what
// was not: with 0 nothing, with 1 all of it.
func (d *Disk) PowerCut(seed uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.power++
	clear(d.locks)
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a seed has to give the same again
	likely := []float64{0, 1, 0.5, 0.1, 0.9}[seed%5]
	d.used = 0
	d.cut(d.root, func() bool { return r.Float64() < likely }, map[*node]bool{})
}

// cut makes what is on disk what programs see.
func (d *Disk) cut(n *node, survives func() bool, done map[*node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	n.opens = 0
	for _, c := range n.changes {
		if survives() {
			put(n.kept, c.name, c.node)
		}
	}
	n.changes, n.names = nil, maps.Clone(n.kept)
	size := len(n.disk)
	if survives() {
		size = max(size, len(n.data))
	}
	n.disk = append(n.disk, make([]byte, size-len(n.disk))...)
	for _, w := range n.writes {
		for from := 0; from < len(w.data); {
			to := min(from+sector-(w.at+from)%sector, len(w.data))
			if at := w.at + from; survives() && at < size {
				copy(n.disk[at:], w.data[from:to])
			}
			from = to
		}
	}
	n.writes, n.data = nil, slices.Clone(n.disk)
	d.used += int64(size)
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		child := n.names[name]
		if !done[child] {
			child.links = 0
		}
		child.links++
		d.cut(child, survives, done)
	}
}

// Settle makes all that was written survive a power cut.
func (d *Disk) Settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.walk("", d.root, func(_ string, n *node) { n.sync(); n.syncNames() })
}

// Files are the bytes of all files, by name, as programs see them.
func (d *Disk) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string][]byte{}
	d.walk("", d.root, func(name string, n *node) {
		if n.mode.IsRegular() {
			all[name] = slices.Clone(n.data)
		}
	})
	return all
}

// Put makes something, with its folders, and has it on disk: a file, or by its mode whatever
// else there is.
func (d *Disk) Put(name string, mode fs.FileMode, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.root
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		if part == "." {
			continue
		}
		if at.names[part] == nil {
			at.set(part, folder())
		}
		at.syncNames()
		at = at.names[part]
	}
	n := folder()
	n.mode = mode
	n.data, n.disk = slices.Clone(data), slices.Clone(data)
	d.used += int64(len(data))
	at.set(path.Base(name), n)
	at.syncNames()
}

// Damage makes reads of a file fail.
func (d *Disk) Damage(name string) { d.must(name, func(n *node) { n.damaged = true }) }

// Flip changes one bit of a file.
func (d *Disk) Flip(name string, at int) {
	d.must(name, func(n *node) { n.sync(); n.data[at] ^= 1; n.disk[at] ^= 1 })
}

// Cut makes a file shorter.
func (d *Disk) Cut(name string, size int) {
	d.must(name, func(n *node) { n.sync(); n.data, n.disk = n.data[:size], n.disk[:size] })
}

func (d *Disk) must(name string, do func(*node)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find("change", name)
	if err != nil {
		panic(err)
	}
	do(n)
}

func (d *Disk) walk(name string, n *node, do func(string, *node)) {
	do(name, n)
	for _, child := range slices.Sorted(maps.Keys(n.names)) {
		d.walk(path.Join(name, child), n.names[child], do)
	}
}

// find is what has a name. Links are not followed.
func (d *Disk) find(op, name string) (*node, error) {
	at := d.root
	if name == "." {
		return at, nil
	}
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	for part := range strings.SplitSeq(name, "/") {
		if at.mode&fs.ModeDir == 0 {
			return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		if at = at.names[part]; at == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return at, nil
}

// set changes a name in a folder; nil removes it.
func (n *node) set(name string, to *node) {
	put(n.names, name, to)
	n.changes = append(n.changes, change{name, to})
	if to != nil {
		to.links++
	}
}

func put(names map[string]*node, name string, to *node) {
	if to == nil {
		delete(names, name)
		return
	}
	names[name] = to
}

// sync brings to the disk what is not there. What a Sync lost that failed is not brought.
func (n *node) sync() {
	n.disk = append(n.disk, make([]byte, len(n.data)-len(n.disk))...)
	for _, w := range n.writes {
		copy(n.disk[w.at:], w.data)
	}
	n.writes = nil
}

func (n *node) syncNames() { n.kept, n.changes = maps.Clone(n.names), nil }

// write takes bytes to their place.
func (n *node) write(b []byte, at int) {
	if grow := at + len(b) - len(n.data); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[at:], b)
	n.writes = append(n.writes, write{at, slices.Clone(b)})
}

// drop gives the space of a file back that nobody can reach any more.
func (d *Disk) drop(n *node) {
	if n.links == 0 && n.opens == 0 {
		d.used -= int64(len(n.data))
	}
}

// String is the tree, for tests that fail.
func (d *Disk) String() string {
	var b strings.Builder
	d.mu.Lock()
	defer d.mu.Unlock()
	d.walk("", d.root, func(name string, n *node) {
		fmt.Fprintf(&b, "%s %s %d bytes, %d on disk, %d writes\n", n.mode, name, len(n.data), len(n.disk), len(n.writes))
	})
	return b.String()
}
