package nodeservices

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHostileFolders: what is no folder or file of ours is left as it is, and named. Nothing
// outside is written or read, nobody waits, and no manifest is made.
func TestHostileFolders(t *testing.T) {
	t.Parallel()
	const (
		config = "etc/kubernetes/registry"
		data   = "opt/deckhouse/registry"
	)
	for name, row := range map[string]struct {
		at    string
		place func(at, outside string) error
		why   string
	}{
		"a link for the folder":            {config, link, "a symbolic link"},
		"a file for the folder":            {config, plain, "a file"},
		"the folder of others":             {config, folderOf(1000), "belongs to user 1000"},
		"a folder that all may write to":   {config, open, "others may write"},
		"a link above":                     {"etc/kubernetes", link, "a symbolic link"},
		"the one above of others":          {"etc", folderOf(1000), "belongs to user 1000"},
		"a link for a file":                {config + "/layout", link, "a symbolic link"},
		"a pipe for a file":                {config + "/users", pipe, "a pipe"},
		"a folder for a file":              {config + "/stores", folderOf(0), "a folder"},
		"a socket for a file":              {config + "/pins", socket, "something else"},
		"the file of others":               {config + "/tls.crt", fileOf(1000), "belongs to user 1000"},
		"a file with a second name":        {config + "/layout", second, "another name"},
		"a large file":                     {config + "/layout", large, "bytes"},
		"a link for the key":               {config + "/tls.key", link, "a symbolic link"},
		"a pipe for the key":               {config + "/tls.key", pipe, "a pipe"},
		"a link for what is kept":          {data, link, "a symbolic link"},
		"what is kept is of others":        {data, folderOf(1000), "belongs to user 1000"},
		"what is kept is something else":   {data, full, "not empty"},
		"the one above what is kept":       {"opt", open, "others may write"},
		"a link for static pods":           {"etc/kubernetes/manifests", link, "a symbolic link"},
		"static pods of others":            {"etc/kubernetes/manifests", folderOf(1000), "belongs to user 1000"},
		"a link for the manifest":          {manifestFile, link, "a symbolic link"},
		"a pipe for the manifest":          {manifestFile, pipe, "a pipe"},
		"the manifest of somebody else":    {manifestFile, fileOf(1000), "belongs to user 1000"},
		"a manifest with a second name":    {manifestFile, second, "another name"},
		"no folder for a folder's parents": {"opt/deckhouse", pipe, "a pipe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			c := h.signed(some()) // of a key that stays away
			outside := filepath.Join(t.TempDir(), "outside")
			must(t, os.Mkdir(outside, 0o700))
			must(t, os.WriteFile(filepath.Join(outside, "layout"), []byte("theirs"), 0o600))
			at := filepath.Join(h.dir, row.at)
			if strings.HasPrefix(config, row.at) || row.at == config+"/tls.key" {
				must(t, os.RemoveAll(at))
			}
			must(t, os.MkdirAll(filepath.Dir(at), 0o755))
			must(t, row.place(at, outside))
			before, there := h.tree(), h.names(outside)
			ended := make(chan error, 1)
			go func() {
				_, err := h.Apply(c)
				if _, lookErr := h.Look(c); lookErr != nil && err == nil {
					err = errors.New("only Look fails")
				}
				ended <- err
			}()
			select {
			case err := <-ended:
				if err == nil || !strings.Contains(err.Error(), "/"+row.at+" ") || !strings.Contains(err.Error(), row.why) {
					t.Errorf("%v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it waits")
			}
			if h.tree()[row.at] != before[row.at] || h.names(outside) != there {
				t.Errorf("it was changed: %q, %q", h.tree()[row.at], h.names(outside))
			}
			if row.at != manifestFile && len(h.names(filepath.Join(h.dir, manifestFile))) > 0 {
				t.Error("there is a manifest")
			}
			if row.at == config || row.at == "etc/kubernetes" || row.at == "etc/kubernetes/manifests" {
				if err := h.Remove(); err == nil || !strings.Contains(err.Error(), "/"+row.at+" ") || h.names(outside) != there {
					t.Errorf("removed: %v", err)
				}
			}
		})
	}
}

// TestADiskOfItsOwn: the root of a new file system is root's, and empty but for lost+found.
// One that a store has used is taken as it is.
func TestADiskOfItsOwn(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	at := filepath.Join(h.dir, "opt/deckhouse/registry")
	must(t, os.MkdirAll(filepath.Join(at, "lost+found"), 0o755))
	c := h.signed(some())
	if f := h.apply(c); f.State != Written {
		t.Fatalf("%+v", f)
	}
	must(t, os.WriteFile(filepath.Join(at, "store.json"), nil, 0o600))
	must(t, h.Remove())
	if f := h.apply(h.signed(some())); f.State != Written {
		t.Errorf("%+v", f)
	}
}

// TestOthersInTheFolder: what an older module or an operator put there stays.
func TestOthersInTheFolder(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	theirs := filepath.Join(h.dir, "etc/kubernetes/registry/pki")
	must(t, os.MkdirAll(theirs, 0o700))
	if f := h.apply(h.signed(some())); f.State != Written {
		t.Fatalf("%+v", f)
	}
	must(t, h.Remove())
	if _, err := os.Stat(theirs); err != nil || h.names(filepath.Dir(theirs)) != "pki " {
		t.Errorf("%v; %q", err, h.names(filepath.Dir(theirs)))
	}
}

// names are those in a folder, with what is in the files; of a file only that it is there.
func (h *host) names(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if _, err := os.Lstat(dir); err == nil {
			return "file"
		}
		return ""
	}
	all := ""
	for _, e := range entries {
		all += e.Name() + " "
		if e.Type().IsRegular() {
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				h.t.Error(err)
			}
			all += string(text) + " "
		}
	}
	return all
}

// link leads outside by a way that stays in the host, which a root of files would follow.
func link(at, outside string) error {
	inside := filepath.Join(filepath.Dir(at), "elsewhere")
	if err := os.Rename(outside, inside); err != nil {
		return err
	}
	if err := os.Symlink(inside, outside); err != nil {
		return err
	}
	return os.Symlink("elsewhere", at)
}

func plain(at, _ string) error { return os.WriteFile(at, nil, 0o600) }

func pipe(at, _ string) error { return syscall.Mkfifo(at, 0o600) }

func socket(at, _ string) error { return syscall.Mknod(at, syscall.S_IFSOCK|0o600, 0) }

func large(at, _ string) error { return errors.Join(plain(at, ""), os.Truncate(at, maxFile+1)) }

func second(at, outside string) error { return os.Link(filepath.Join(outside, "layout"), at) }

func open(at, _ string) error { return errors.Join(os.MkdirAll(at, 0o700), os.Chmod(at, 0o777)) }

func full(at, _ string) error {
	return errors.Join(os.Mkdir(at, 0o755), os.WriteFile(filepath.Join(at, "data"), nil, 0o600))
}

func folderOf(user int) func(at, _ string) error {
	return func(at, _ string) error { return errors.Join(os.MkdirAll(at, 0o755), owner(at, user)) }
}

func fileOf(user int) func(at, _ string) error {
	return func(at, _ string) error { return errors.Join(plain(at, ""), owner(at, user)) }
}
