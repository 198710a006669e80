package house

import (
	"go/ast"
	"path"
	"strings"
	"testing"
)

const (
	mostOfPackage  = 1800 // lines without tests
	mostOfFile     = 400  // lines
	mostOfFunction = 60   // lines of its body
	mostFields     = 10
)

// whole are packages that are larger because they are one thing.
func whole(folder string) bool {
	return folder == "internal/control/switchover"
}

func TestPackages(t *testing.T) {
	t.Parallel()
	lines := map[string]int{}
	for _, s := range sources(t) {
		if folder := path.Dir(s.name); !s.test() && !forTests(folder) && !whole(folder) {
			lines[folder] += s.lines
		}
	}
	for folder, n := range lines {
		if n > mostOfPackage {
			t.Errorf("%s has %d lines without tests, over %d", folder, n, mostOfPackage)
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.lines > mostOfFile {
			t.Errorf("%s has %d lines, over %d", s.name, s.lines, mostOfFile)
		}
	}
}

// TestFunctions counts as the linter does: the lines between the braces. Tests
// may be longer, for their tables.
func TestFunctions(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			if n := s.fset.Position(f.Body.Rbrace).Line - s.fset.Position(f.Body.Lbrace).Line - 1; n > mostOfFunction {
				t.Errorf("%s: %s has %d lines, over %d", s.name, f.Name.Name, n, mostOfFunction)
			}
		}
	}
}

// TestStructs finds objects of internal/control that can touch everything. An
// object is a struct with methods that change it (a pointer receiver) and with
// something of its own (a field that is not exported). Plain data and
// configuration, whose fields are all exported, may have as many as there is to
// say.
func TestStructs(t *testing.T) {
	t.Parallel()
	type key struct{ folder, name string }
	changes := map[key]bool{}
	all := sources(t)
	for _, s := range all {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && !s.test() {
				if star, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok {
					changes[key{path.Dir(s.name), nameOf(star.X)}] = true
				}
			}
		}
	}
	for _, s := range all {
		if s.test() || !strings.HasPrefix(s.name, "internal/control/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if fields, own := fieldsOf(spec); own && fields > mostFields && changes[key{path.Dir(s.name), spec.Name.Name}] {
				t.Errorf("%s: %s has %d fields, over %d", s.name, spec.Name.Name, fields, mostFields)
			}
			return true
		})
	}
}

// fieldsOf counts the fields of a struct, and reports whether one is not
// exported.
func fieldsOf(spec *ast.TypeSpec) (n int, own bool) {
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return 0, false
	}
	for _, f := range s.Fields.List {
		if len(f.Names) == 0 { // embedded
			n++
			own = own || !ast.IsExported(nameOf(f.Type))
		}
		for _, name := range f.Names {
			n++
			own = own || !name.IsExported()
		}
	}
	return n, own
}

// nameOf is the last word of a type's name, without a package, a star and type
// parameters.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return nameOf(e.X)
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		return nameOf(e.X)
	}
	return ""
}
