// Package tags is what tags meant when a registry was asked the last time, on disk, so that
// a store that starts anew still knows it when the registry is away.
//
//	tags/<place>/<repository>/_tags/<tag>.json
//
// "_tags" cannot be a part of a repository's name, so that a tag is never where a
// repository is. Nothing here says how old an answer is: after a start all of them are to
// be asked for again. Start at Open, then (*Tags).Note.
package tags

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

const (
	folder = "tags"
	inside = "_tags"
	suffix = ".json"
	// most bounds what is kept: a registry may have any number, and each is a file.
	most = 50_000
	// mostFile is what one file may have, in bytes.
	mostFile = 4 << 10
	// deepest is how many parts a repository may have: its name has 255 bytes.
	deepest = 128
)

// Key is a tag of a repository as its registry calls it. Place says which registry.
type Key struct{ Place, Repository, Tag string }

// Meaning is what a tag meant.
type Meaning struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType,omitempty"`
}

// Tags are all that are known. All methods may be called at once.
type Tags struct {
	fsys disk.FS

	mu      sync.RWMutex
	known   map[Key]Meaning
	changed map[Key]bool // since they were written
	writing bool         // somebody is at it; nobody else changes the disk

	made map[string]bool // folders that survive a power cut
}

var (
	placeForm = regexp.MustCompile(`^[0-9a-f]{16}$`)
	tagForm   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	partForm  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)
)

// ok keeps what is no name of a registry out of paths.
func (k Key) ok() bool {
	if !placeForm.MatchString(k.Place) || !tagForm.MatchString(k.Tag) || len(k.Repository) > oci.MaxRepository {
		return false
	}
	parts := strings.Split(k.Repository, "/")
	for _, part := range parts {
		if !partForm.MatchString(part) {
			return false
		}
	}
	return len(parts) <= deepest
}

func (k Key) file() string {
	return path.Join(folder, k.Place, k.Repository, inside, k.Tag+suffix)
}

// Open reads what is there. What is strange is removed, or left alone where it cannot be.
func Open(fsys disk.FS) (*Tags, error) {
	t := &Tags{fsys: fsys, known: map[Key]Meaning{}, changed: map[Key]bool{}, made: map[string]bool{}}
	if err := t.folders(folder); err != nil {
		return nil, fmt.Errorf("make the folder of tags: %w", err)
	}
	if err := t.read(folder, 0); err != nil {
		return nil, fmt.Errorf("read the tags: %w", err)
	}
	return t, nil
}

// read goes through a folder that is so many below the first.
func (t *Tags) read(name string, depth int) error {
	entries, err := t.fsys.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		child := path.Join(name, e.Name())
		switch {
		case e.IsDir() && depth < deepest+2:
			if err := t.read(child, depth+1); err != nil {
				return err
			}
			continue
		case e.Type().IsRegular() && t.load(child):
			continue
		}
		_ = t.fsys.Remove(child) // of a process that died, or nobody's
	}
	return nil
}

// load is false for what is no tag.
func (t *Tags) load(name string) bool {
	k, ok := keyOf(name)
	if !ok || len(t.known) >= most {
		return false
	}
	data, err := disk.ReadFile(t.fsys, name, mostFile)
	if err != nil {
		return false
	}
	m, ok := parse(data)
	if ok {
		t.known[k] = m
	}
	return ok
}

// keyOf is the inverse of file.
func keyOf(name string) (k Key, ok bool) {
	rest, below := strings.CutPrefix(name, folder+"/")
	k.Place, rest, _ = strings.Cut(rest, "/")
	k.Repository, k.Tag, _ = strings.Cut(rest, "/"+inside+"/")
	k.Tag, ok = strings.CutSuffix(k.Tag, suffix)
	return k, below && ok && k.ok()
}

// parse understands the content of a file, which may be anything.
func parse(data []byte) (m Meaning, ok bool) {
	err := json.Unmarshal(data, &m)
	return m, err == nil && oci.IsDigest(m.Digest)
}

// Get is what a tag meant.
func (t *Tags) Get(k Key) (Meaning, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m, ok := t.known[k]
	return m, ok
}

// Note is what a tag means from now on. Nobody waits for the disk: Write has it survive.
func (t *Tags) Note(k Key, m Meaning) error {
	if !k.ok() || !oci.IsDigest(m.Digest) {
		return fmt.Errorf("note what tag %.200q of %.300q means: %.100q: this is no tag, or no digest", k.Tag, k.Repository, m.Digest)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old, known := t.known[k]
	switch {
	case known && old == m:
		return nil
	case !known && len(t.known) >= most, !t.changed[k] && len(t.changed) >= most:
		return fmt.Errorf("note what tag %s of %s means: %d are known, and no more are kept", k.Tag, k.Repository, most)
	}
	t.known[k], t.changed[k] = m, true
	return nil
}

// Forget is for a tag that is gone. Write has it gone for the next process too.
func (t *Tags) Forget(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.known[k]; known {
		delete(t.known, k)
		t.changed[k] = true
	}
}

// Write has the disk say what is known: on return it survives a power cut, unless somebody else is
// at it, who does it then. What it cannot write the next one tries again.
func (t *Tags) Write() error {
	t.mu.Lock()
	busy := t.writing
	t.writing = true
	t.mu.Unlock()
	if busy {
		return nil
	}
	for {
		k, m, ok := t.next()
		if !ok {
			return nil
		}
		if err := t.write(k, m); err != nil {
			t.again(k)
			return err
		}
	}
}

// again is for a tag that could not be written.
func (t *Tags) again(k Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed[k], t.writing = true, false
}

// next is a tag that the disk does not know as it is; its digest is "" if it is gone. Without one
// the writing ends.
func (t *Tags) next() (k Key, m Meaning, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.changed {
		delete(t.changed, k)
		return k, t.known[k], true
	}
	t.writing = false
	return Key{}, Meaning{}, false
}

func (t *Tags) write(k Key, m Meaning) error {
	if m.Digest == "" {
		err := t.fsys.Remove(k.file())
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = t.fsys.SyncDir(path.Dir(k.file()))
		}
		if err != nil {
			return fmt.Errorf("forget tag %s of %s: %w", k.Tag, k.Repository, err)
		}
		return nil
	}
	data, err := json.Marshal(m)
	if err == nil {
		err = t.folders(path.Dir(k.file()))
	}
	if err == nil {
		err = disk.Replace(t.fsys, k.file(), data)
	}
	if err != nil {
		return fmt.Errorf("write what tag %s of %s means: %w", k.Tag, k.Repository, err)
	}
	return nil
}

// folders makes a folder and those above it, so that they survive. One that is there may be
// of a process that died before it was synced.
func (t *Tags) folders(name string) error {
	if t.made[name] {
		return nil
	}
	if name != folder {
		if err := t.folders(path.Dir(name)); err != nil {
			return err
		}
	}
	if err := t.fsys.Mkdir(name); err != nil {
		return err
	}
	if err := t.fsys.SyncDir(path.Dir(name)); err != nil {
		return err
	}
	t.made[name] = true
	return nil
}

// Keep forgets all whose digest nobody has any more: they could not be served.
func (t *Tags) Keep(has func(digest string) bool) error {
	var gone []Key
	t.mu.RLock()
	for k, m := range t.known {
		if !has(m.Digest) {
			gone = append(gone, k)
		}
	}
	t.mu.RUnlock()
	for _, k := range gone {
		t.Forget(k)
	}
	return t.Write()
}
