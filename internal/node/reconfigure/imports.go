package reconfigure

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// checkImports refuses a main file that imports a file which is not there, or
// which is not TOML. containerd 2 does not start with it, although its `config
// dump` shows no error and only leaves out the rest.
func (r *Reconfigurer) checkImports(p pathMapping, data []byte) error {
	seen := map[string]bool{p.shown: true}
	type file struct {
		name string
		data []byte
	}
	for todo := []file{{p.shown, data}}; len(todo) > 0 && len(seen) < 1000; todo = todo[1:] {
		var doc struct {
			Imports []string `toml:"imports"`
		}
		if err := toml.Unmarshal(todo[0].data, &doc); err != nil {
			return &Refusal{fmt.Sprintf("%s is not valid TOML; containerd would not start with it", todo[0].name)}
		}
		for _, name := range doc.Imports {
			if name = filepath.Clean(name); !filepath.IsAbs(name) {
				name = filepath.Join(filepath.Dir(todo[0].name), name)
			}
			// A pattern matches only files that exist, and the dump reads these.
			if seen[name] || strings.Contains(name, "*") {
				continue
			}
			seen[name] = true
			real, err := resolveLinks(r.fs, p.root, name)
			if err != nil {
				return err
			}
			data, err := r.fs.ReadFile(filepath.Join("/", p.root, real))
			if errors.Is(err, fs.ErrNotExist) {
				return &Refusal{fmt.Sprintf("%s imports %s, which does not exist; containerd would not start with it", todo[0].name, name)}
			}
			if err != nil {
				return fmt.Errorf("read %s, which %s imports: %w", name, todo[0].name, err)
			}
			todo = append(todo, file{name, data})
		}
	}
	return nil
}
