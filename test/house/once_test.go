package house

import (
	"go/ast"
	"path"
	"slices"
	"testing"
)

// TestOnce names calls that belong in one place, so that a thing is decided once.
func TestOnce(t *testing.T) {
	t.Parallel()
	places := map[string][]string{
		"x509.CreateCertificate": {"internal/pki", "test/harness/cert"},
		"http.Server":            {"internal/datapath/inbound", "test/harness/machine"}, // deadlines and limits
	}
	found := map[string]bool{}
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, ok := call.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := from.Name + "." + call.Sel.Name
			if only, ok := places[name]; ok {
				found[name] = true
				if !slices.Contains(only, path.Dir(s.name)) {
					t.Errorf("%s:%d: %s is for %v", s.name, s.fset.Position(call.Pos()).Line, name, only)
				}
			}
			return true
		})
	}
	if len(found) != len(places) {
		t.Errorf("of %v only %v are called anywhere", places, found)
	}
}
