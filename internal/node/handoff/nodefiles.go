package handoff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/d8-registry/registry/internal/upstream"
)

// fileMirrors is what users set up on this node, with their credentials. node
// writes it and serve reads it: serve may not read the users' own files.
const fileMirrors = "mirrors.json"

// fileMemory is written and read by node only.
const fileMemory = "node.json"

// Memory reads what SaveMemory saved. If nothing was, it leaves into as it is.
func (f StateDir) Memory(into any) error { return readJSON(f.nodePath(fileMemory), into) }

// SaveMemory saves what node must know after a restart, and returns when that is
// on disk.
func (f StateDir) SaveMemory(what any) error { return f.writeJSON(f.nodePath(fileMemory), what) }

// Mirrors are the hosts that SaveMirrors saved.
func (f StateDir) Mirrors() ([]upstream.UserHost, error) {
	data, err := read(f.nodePath(fileMirrors))
	if err != nil {
		return nil, unlessMissing(err)
	}
	var hosts []upstream.UserHost
	if json.Unmarshal(data, &hosts) != nil {
		// The decoder's error may quote a password.
		return nil, fmt.Errorf("read %s: it is not what was written", fileMirrors)
	}
	return hosts, nil
}

// SaveMirrors returns when the hosts are on disk, and whether they have changed.
func (f StateDir) SaveMirrors(hosts []upstream.UserHost) (changed bool, err error) {
	if hosts == nil {
		hosts = []upstream.UserHost{}
	}
	data, err := json.Marshal(hosts)
	if err != nil {
		return false, fmt.Errorf("encode %s: %w", fileMirrors, err)
	}
	old, err := read(f.nodePath(fileMirrors))
	if err == nil && bytes.Equal(old, data) || errors.Is(err, fs.ErrNotExist) && len(hosts) == 0 {
		return false, nil
	}
	reader, err := f.reader()
	if err != nil {
		return true, err
	}
	return true, f.write(f.nodePath(fileMirrors), reader, data)
}

// reader is the group that serve is in; ownerOnly if serve is the same user as
// this program.
func (f StateDir) reader() (int, error) {
	info, err := os.Stat(f.servePath(""))
	if err != nil {
		return 0, fmt.Errorf("whose the folder of the serving half is: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return ownerOnly, nil
	}
	return int(owner.Gid), nil
}
