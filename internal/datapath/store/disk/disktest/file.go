package disktest

import (
	"io"
	"io/fs"
	"syscall"
)

// file is a disk.File.
type file struct {
	p      *Process
	n      *node
	name   string
	edit   bool
	closed bool
}

func (f *file) error(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// ReadAt implements disk.File.
func (f *file) ReadAt(b []byte, at int64) (n int, err error) {
	err = f.p.read(func() error {
		switch {
		case f.closed:
			return f.error("read", fs.ErrClosed)
		case f.n.damaged:
			return f.error("read", syscall.EIO)
		case at < 0:
			return f.error("read", fs.ErrInvalid)
		case at < int64(len(f.n.data)):
			n = copy(b, f.n.data[at:])
		}
		if n < len(b) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

// WriteAt implements disk.File.
func (f *file) WriteAt(b []byte, at int64) (n int, err error) {
	if !f.edit || at < 0 {
		return 0, f.error("write", fs.ErrInvalid)
	}
	err = f.p.step(Write, f.name, func(e Effect) error {
		if f.closed {
			return f.error("write", fs.ErrClosed)
		}
		part := b
		if e == Half {
			part = b[:len(b)/2]
		}
		full := false
		if more := at + int64(len(part)) - int64(len(f.n.data)); more > f.p.disk.total-f.p.disk.used && more > 0 {
			full = true
			fits := f.p.disk.total - f.p.disk.used + int64(len(f.n.data)) - at
			part = part[:min(max(fits, 0), int64(len(part)))]
		}
		if n = len(part); n > 0 {
			before := len(f.n.data)
			f.n.write(part, int(at))
			f.p.disk.used += int64(len(f.n.data) - before)
		}
		if full {
			return f.error("write", syscall.ENOSPC)
		}
		return nil
	})
	return n, err
}

// Size implements disk.File.
func (f *file) Size() (n int64, err error) {
	err = f.p.read(func() error { n = int64(len(f.n.data)); return nil })
	return n, err
}

// Sync implements disk.File.
func (f *file) Sync() error {
	return f.p.step(Sync, f.name, func(e Effect) error {
		if f.closed {
			return f.error("sync", fs.ErrClosed)
		}
		if e == Done {
			f.n.sync()
		}
		f.n.writes = nil // programs see those of a Sync that fails, and no disk will have them
		return nil
	})
}

// Seal implements disk.File.
func (f *file) Seal() error {
	return f.p.step(Seal, f.name, whole(func() error { f.n.mode = 0o444; return nil }))
}

// WriteBack implements disk.File.
func (f *file) WriteBack() {}

// Close implements disk.File.
func (f *file) Close() error {
	return f.p.read(func() error {
		if f.closed {
			return f.error("close", fs.ErrClosed)
		}
		f.closed = true
		f.n.opens--
		f.p.disk.drop(f.n)
		return nil
	})
}
