package blob

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

const (
	// format is what the folder looks like. A newer one is another program's.
	format = 1
	// mostOfMeta bounds the small files that we read back.
	mostOfMeta = 1 << 20
)

// about is store.json.
type about struct {
	Format int `json:"format"`
}

// prepare makes the folder a store, or finds that it is one that we know.
func (s *Store) prepare() error {
	data, err := disk.ReadFile(s.fsys, "store.json", mostOfMeta)
	var a about
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("reading store.json: %w", err)
	default:
		if err := json.Unmarshal(data, &a); err != nil || a.Format < 1 {
			s.log.Warn("store.json says nothing, and is written again")
			a = about{}
		}
	}
	if a.Format > format {
		return fmt.Errorf("the store is of format %d, made by a later version: this one knows %d", a.Format, format)
	}
	folders := []string{blobsFolder, partialFolder, trashFolder}
	for _, algorithm := range algorithms() {
		folders = append(folders, blobsFolder+"/"+algorithm)
	}
	for _, name := range folders {
		if err := s.fsys.Mkdir(name); err != nil {
			return fmt.Errorf("making the folder %s: %w", name, err)
		}
	}
	for _, name := range []string{blobsFolder, "."} { // somebody may have removed a folder
		if err := s.fsys.SyncDir(name); err != nil {
			return fmt.Errorf("keeping the folders: %w", err)
		}
	}
	if a.Format == format {
		return nil
	}
	// store.json is the last, so that without it all is made again.
	for _, f := range []struct{ name, text string }{
		{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`},
		{"index.json", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`},
		{"store.json", fmt.Sprintf(`{"format":%d}`, format)},
	} {
		if err := disk.Replace(s.fsys, f.name, []byte(f.text)); err != nil {
			return fmt.Errorf("writing %s: %w", f.name, err)
		}
	}
	return nil
}

// emptyTrash removes what a process before had no time for. What cannot be removed stays.
func (s *Store) emptyTrash(ctx context.Context) error {
	left, err := s.fsys.ReadDir(trashFolder)
	if err != nil {
		return fmt.Errorf("reading the trash: %w", err)
	}
	for _, e := range left {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.removeAll(path.Join(trashFolder, e.Name()), e); err != nil {
			s.log.Warn("something stays in the trash", "name", e.Name(), "error", err)
			if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
				s.trashed.Store(max(s.trashed.Load(), n))
			}
		}
	}
	return nil
}

// removeAll removes a file, or a folder with what is in it. Links are not followed.
func (s *Store) removeAll(name string, e fs.DirEntry) error {
	if e.IsDir() {
		in, err := s.fsys.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range in {
			if err := s.removeAll(path.Join(name, e.Name()), e); err != nil {
				return err
			}
		}
	}
	return s.fsys.Remove(name)
}

// findBlobs reads which whole ones there are. What is no file with the name of one goes.
func (s *Store) findBlobs(ctx context.Context) error {
	top, err := s.fsys.ReadDir(blobsFolder)
	if err != nil {
		return fmt.Errorf("reading which blobs there are: %w", err)
	}
	for _, e := range top {
		if e.Name() != "sha256" && e.Name() != "sha512" {
			if err := s.throw(path.Join(blobsFolder, e.Name()), e); err != nil {
				return err
			}
		}
	}
	for _, algorithm := range algorithms() {
		folder := path.Join(blobsFolder, algorithm)
		in, err := s.fsys.ReadDir(folder)
		if err != nil {
			return fmt.Errorf("reading which blobs there are: %w", err)
		}
		for _, e := range in {
			if err := ctx.Err(); err != nil {
				return err
			}
			digest := algorithm + ":" + e.Name()
			if !e.Type().IsRegular() || !oci.IsDigest(digest) {
				if err := s.throw(path.Join(folder, e.Name()), e); err != nil {
					return err
				}
				continue
			}
			info, err := e.Info()
			if err != nil {
				return fmt.Errorf("reading the size of %s: %w", digest, err)
			}
			s.index(digest, info.Size())
		}
	}
	return nil
}

// findPartials keeps those of this run of the kernel, with what their metas say. All else in
// the folder goes.
func (s *Store) findPartials(ctx context.Context) error {
	in, err := s.fsys.ReadDir(partialFolder)
	if err != nil {
		return fmt.Errorf("reading what was coming: %w", err)
	}
	kept := map[string]bool{}
	for _, e := range in {
		if err := ctx.Err(); err != nil {
			return err
		}
		base, ok := strings.CutSuffix(e.Name(), metaSuffix)
		digest := strings.Replace(base, "-", ":", 1)
		if !ok || !e.Type().IsRegular() || !oci.IsDigest(digest) {
			continue
		}
		m, err := s.readMeta(digest)
		if err != nil {
			s.log.Info("what came of a blob is not kept", "digest", digest, "why", err)
			continue
		}
		s.partials[digest] = &left{size: m.Size, have: m.Spans}
		kept[base], kept[e.Name()] = true, true
	}
	for _, e := range in {
		if !kept[e.Name()] {
			if err := s.throw(path.Join(partialFolder, e.Name()), e); err != nil {
				return err
			}
		}
	}
	return nil
}

// throw takes something out of its place.
func (s *Store) throw(name string, e fs.DirEntry) error {
	to := s.trashName()
	if err := s.fsys.Rename(name, to); err != nil {
		return fmt.Errorf("taking %q out: %w", name, err)
	}
	if err := s.removeAll(to, e); err != nil {
		s.log.Warn("something stays in the trash", "name", to, "error", err)
	}
	return nil
}

func (s *Store) trashName() string {
	return path.Join(trashFolder, strconv.FormatInt(s.trashed.Add(1), 10))
}
