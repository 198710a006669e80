package proxy

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// The data path knows nothing of Kubernetes, nor of files.
func TestImports(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{"internal/foreign": true, "internal/layout": true, "internal/upstream": true, "internal/datapath/regauth": true, "internal/datapath/judge": true, "internal/datapath/oci": true, "internal/datapath/routes": true, "internal/datapath/answer": true, "internal/datapath/transport": true}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range parsed.Imports {
			path := strings.Trim(imported.Path.Value, `"`)
			ours, isOurs := strings.CutPrefix(path, "github.com/d8-registry/registry/")
			if strings.Contains(path, "k8s.io") || path == "os" || isOurs && !allowed[ours] {
				t.Errorf("%s imports %s", f.Name(), path)
			}
		}
	}
}
