package proxy

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// The data path knows nothing of Kubernetes, nor of files. Who knows whom of its own
// packages is a rule of the house.
func TestImports(t *testing.T) {
	t.Parallel()
	read := 0
	for _, folder := range []string{"proxy", "fetch", "routes", "answer", "transport", "oci"} {
		files, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			read++
			parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imported := range parsed.Imports {
				path := strings.Trim(imported.Path.Value, `"`)
				ours, isOurs := strings.CutPrefix(path, "github.com/d8-registry/registry/internal/")
				known := strings.HasPrefix(ours, "datapath/") || ours == "foreign" || ours == "layout" || ours == "upstream"
				if strings.Contains(path, "k8s.io") || path == "os" || isOurs && !known {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
	}
	if read < 20 {
		t.Errorf("only %d files were read", read)
	}
}
