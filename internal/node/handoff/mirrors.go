package handoff

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"

	"github.com/d8-registry/registry/internal/upstream"
)

// fileMirrors is what users set up on this node, with their credentials. node
// writes it and serve reads it: serve may not read the users' own files.
const fileMirrors = "mirrors.json"

// PathMirrors tells serve that the file has changed.
const PathMirrors = "/-/mirrors"

// Mirrors are the hosts that SaveMirrors saved.
func (f StateDir) Mirrors() ([]upstream.UserHost, error) {
	data, err := read(f.nodePath(fileMirrors))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
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

// Mirrors tells serve to read what SaveMirrors saved. It fails if serve cannot
// use that; then serve goes on with what it had.
func (c *Client) Mirrors(ctx context.Context) error {
	return c.ask(ctx, http.MethodPost, PathMirrors, nil)
}
