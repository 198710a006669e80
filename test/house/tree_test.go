package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/d8-registry/registry"
)

// pkg is a package as go list tells it; paths are relative to the module.
type pkg struct {
	ImportPath string
	GoFiles    []string
	Imports    []string // of what is compiled into programs, not of tests
}

// packages are those of the product's module, by path.
func packages(t *testing.T) map[string]pkg {
	t.Helper()
	// The tag adds files that only the demo's negative control is built of.
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", "brokenprotocol", "-json=ImportPath,GoFiles,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		var own []string
		for _, path := range p.Imports {
			if rest, ok := strings.CutPrefix(path, module+"/"); ok {
				own = append(own, rest)
			}
		}
		p.ImportPath, p.Imports = strings.TrimPrefix(p.ImportPath, module+"/"), own
		all[p.ImportPath] = p
	}
	if len(all) < 20 {
		t.Fatalf("go list finds %d packages", len(all))
	}
	return all
}

// within reports whether a path is a folder or something below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// forTests reports whether no program of the product has this in it.
func forTests(path string) bool {
	return within(path, "test") || within(path, "demo") || within(path, "hack")
}

// files are those of the repository, without what was built or downloaded.
func files(t *testing.T) []string {
	t.Helper()
	skip := map[string]bool{".git": true, ".parts": true, ".demo": true, "bin": true, "dist": true, "testdata": true, "hack/parts": true}
	var all []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name = filepath.ToSlash(strings.TrimPrefix(name, root+"/"))
		switch {
		case skip[name] || skip[path.Base(name)]:
			if d.IsDir() {
				return fs.SkipDir
			}
		case d.Type().IsRegular():
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// source is a Go file, parsed.
type source struct {
	name  string
	fset  *token.FileSet
	file  *ast.File
	lines int
}

func (s source) test() bool { return strings.HasSuffix(s.name, "_test.go") }

// sources are all Go files of the repository, also those of other modules, but
// for generated ones.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		s := source{name: name, fset: token.NewFileSet()}
		var err error
		if s.file, err = parser.ParseFile(s.fset, filepath.Join(root, name), nil, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(s.file) {
			continue
		}
		s.lines = s.fset.File(s.file.Pos()).LineCount() - 1 // after the last line break is nothing
		all = append(all, s)
	}
	return all
}
