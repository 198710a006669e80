package durable

import (
	"io/fs"
	"time"
)

// FS are the file operations that it takes to change files safely. Names are
// paths for Disk and relative to the directory for a Dir.
type FS interface {
	ReadFile(name string) ([]byte, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	// Lstat and Readlink do not follow a symbolic link at the end of the name.
	Lstat(name string) (fs.FileInfo, error)
	Readlink(name string) (string, error)
	// Writable reports why a directory takes no new entries. It changes nothing.
	Writable(dir string) error

	// The rest are the changes.

	Mkdir(name string, perm fs.FileMode) error
	// WriteFile makes a new file and returns when its content and attributes are
	// on disk. A file or link of that name is removed before: who reads it at
	// that moment sees no file, or half of one. Use Replace for names that
	// somebody reads.
	WriteFile(name string, data []byte, a Attributes) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir returns when the directory's own entries are on disk: files that
	// were made, renamed or removed in it.
	SyncDir(dir string) error
}

// DryRun is a file system that takes no changes, to see what somebody would do.
type DryRun struct{ FS }

// Mkdir implements FS.
func (DryRun) Mkdir(string, fs.FileMode) error { return nil }

// WriteFile implements FS.
func (DryRun) WriteFile(string, []byte, Attributes) error { return nil }

// Rename implements FS.
func (DryRun) Rename(string, string) error { return nil }

// Remove implements FS.
func (DryRun) Remove(string) error { return nil }

// SyncDir implements FS.
func (DryRun) SyncDir(string) error { return nil }

// Attributes are what a file has besides its content.
type Attributes struct {
	// Mode has the permission bits. Nil is 0600: the umask changes nothing.
	Mode *fs.FileMode
	// Owner is nil for the user and group of this process.
	Owner *Owner
	// Modified is zero for now.
	Modified time.Time
	// Extended are the extended attributes by name, such as the SELinux label.
	Extended map[string][]byte

	from string // the file that they were read from
}

// Owner is a user and a group by number; -1 leaves that one as it is.
type Owner struct{ UID, GID int }

// mode is the permission bits that the file gets.
func (a Attributes) mode() fs.FileMode {
	if a.Mode == nil {
		return 0o600
	}
	return a.Mode.Perm()
}
