package house

import (
	"go/ast"
	"testing"
)

// TestNoPortIsOnlyLent finds functions that listen on a port of 127.0.0.1, let it go and
// return it: a moment later it may be somebody else's. Package loopback has addresses.
func TestNoPortIsOnlyLent(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if lends(n) {
				t.Errorf("%s:%d: use loopback.Address", s.name, s.fset.Position(n.Pos()).Line)
			}
			return true
		})
	}
}

// lends reports whether a node is such a function.
func lends(n ast.Node) bool {
	var kind *ast.FuncType
	var body *ast.BlockStmt
	switch f := n.(type) {
	case *ast.FuncDecl:
		kind, body = f.Type, f.Body
	case *ast.FuncLit:
		kind, body = f.Type, f.Body
	}
	if body == nil || kind.Results == nil {
		return false
	}
	result := kind.Results.List[0].Type
	if list, ok := result.(*ast.ArrayType); ok {
		result = list.Elt
	}
	if text, ok := result.(*ast.Ident); !ok || text.Name != "string" {
		return false
	}
	listens, closes := false, false
	ast.Inspect(body, func(n ast.Node) bool {
		switch e := n.(type) {
		case *ast.BasicLit:
			listens = listens || e.Value == `"127.0.0.1:0"`
		case *ast.SelectorExpr:
			closes = closes || e.Sel.Name == "Close"
		}
		return true
	})
	return listens && closes
}
