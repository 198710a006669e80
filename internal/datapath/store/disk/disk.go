// Package disk is the folder of a store as the few file operations that it takes, so that
// a test can end the process, or cut the power, at each of them.
//
// Folder is a folder of the machine that nothing can escape. Package disktest has the
// model of one that forgets what was not synced. Start at FS.
package disk

import (
	"errors"
	"io"
	"io/fs"
)

// ErrInUse says that another process has the lock.
var ErrInUse = errors.New("another process has the lock")

// ErrDeleted says that a folder was deleted, and that its path will not lead to another one.
var ErrDeleted = errors.New("the folder was deleted")

// ErrUnwritten says that bytes that a file took before did not get to the disk, and that no Sync will
// say so again.
var ErrUnwritten = errors.New("bytes that were taken are not on the disk")

// FS are the operations. Names are relative to the folder, with slashes.
type FS interface {
	// ReadDir is what is in a folder, in no order. An Info does not follow links.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Open opens a file that is there, to be read.
	Open(name string) (File, error)
	// Edit opens a file that is there, to be read and written.
	Edit(name string) (File, error)

	// The rest are changes. None survives a power cut before what says so was called.

	// Create makes an empty file to be read and written. It fails with fs.ErrExist if there
	// is one. SyncDir of its folder makes its name survive, and its own Sync its bytes.
	Create(name string) (File, error)
	// Mkdir makes a folder. That one is there already is no error.
	Mkdir(name string) error
	// Rename replaces what has the new name in one step. SyncDir of both folders makes it
	// survive.
	Rename(from, to string) error
	// Remove removes a file or an empty folder. It can be open: who reads it reads on.
	Remove(name string) error
	// SyncDir returns when the entries of a folder are on disk.
	SyncDir(name string) error

	// Lock takes the lock of that name until it is closed, or fails with ErrInUse. The
	// system gives it back when the process ends, even after kill -9.
	Lock(name string) (io.Closer, error)
	// Space is what the file system has in all and what is free for us, in bytes.
	Space() (total, free int64, err error)
}

// File is one open file. Reads and writes at different places may go on at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is that of the moment, in bytes.
	Size() (int64, error)
	// Sync returns when the bytes, and the size, are on disk. After an error nobody knows
	// which are, and the next Sync may succeed without them.
	Sync() error
	// Seal makes it a file that nobody opens to write any more.
	Seal() error
	// WriteBack tells the system that the bytes may be written to the disk now, so that a
	// later Sync has little to do. It promises nothing.
	WriteBack()
}
