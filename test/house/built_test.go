package house

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// mostBytes is more than any text of ours has.
const mostBytes = 512 << 10

// TestNothingBuiltIsKept: a program that `go build` left in a folder was once committed.
func TestNothingBuiltIsKept(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || filepath.Dir(name) == root && (d.Name() == "bin" || d.Name() == "dist")):
			return fs.SkipDir // not kept, see .gitignore
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Size() > mostBytes {
			t.Errorf("%s has %d bytes: it was built, and is not to be committed", name, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
