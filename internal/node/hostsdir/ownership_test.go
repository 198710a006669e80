package hostsdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
)

// TestIsOurs is every case in which a node decides whether a directory is its
// own.
func TestIsOurs(t *testing.T) {
	t.Parallel()
	const host = "a.example.com"
	file := func(text string) func(dir string) error {
		return func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, fileHosts), []byte(text), 0o600)
		}
	}
	for name, row := range map[string]struct {
		host   string
		make   func(dir string) error
		listed bool
		want   bool
	}{
		"a name that nobody uses":             {host, func(string) error { return nil }, false, true},
		"with our marker":                     {host, file(marker + "x"), false, true},
		"with our marker, on the list":        {host, file(marker), true, true},
		"somebody else's":                     {host, file("# theirs"), false, false},
		"somebody else's in place of ours":    {host, file("# theirs"), true, false},
		"a marker that is not the first line": {host, file("# theirs\n" + marker), true, false},
		"a crash was before hosts.toml":       {host, func(dir string) error { return os.Mkdir(dir, 0o700) }, true, true},
		"certificates of somebody else":       {host, func(dir string) error { return os.Mkdir(dir, 0o700) }, false, false},
		"a link":                              {host, func(dir string) error { return os.Symlink(".", dir) }, true, false},
		"a linked hosts.toml": {host, func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.Symlink("nowhere", filepath.Join(dir, fileHosts))
		}, true, false},
		"the fixed address":                        {layout.Fixed().Host, file("# theirs"), true, true},
		"the fixed address, which nobody asks for": {layout.Fixed().Host, file("# theirs"), false, false},
		"a link at the fixed address":              {layout.Fixed().Host, func(dir string) error { return os.Symlink(".", dir) }, true, false},
	} {
		root := t.TempDir()
		if err := row.make(filepath.Join(root, row.host)); err != nil {
			t.Fatal(err)
		}
		dir, err := MakeDir(root)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&pass{fsys: dir}).isOurs(row.host, row.listed)
		if err != nil || got != row.want {
			t.Errorf("%s: %t, %v; want %t", name, got, err, row.want)
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
