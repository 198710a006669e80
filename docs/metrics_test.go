package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// Operations has a row for every metric of ours, with its labels. It and the page of mode
// Proxy name none that is gone: an alert on a metric that nobody has is never raised.
func TestOperationsListsTheMetrics(t *testing.T) {
	t.Parallel()
	page := read(t, "operations.md")
	shown, made := map[string]string{}, map[string]string{}
	values := regexp.MustCompile(` *\([^)]*\)`)
	for _, row := range regexp.MustCompile("(?m)^\\| `(registry_\\w+)` \\| (.*?) ?\\| ").FindAllStringSubmatch(page, -1) {
		shown[row[1]] = strings.ReplaceAll(values.ReplaceAllString(row[2], ""), "`", "")
	}
	for _, file := range files(t, regexp.MustCompile(`^(cmd|internal)/.*\.go$`)) {
		if !strings.HasSuffix(file, "_test.go") {
			metricsOf(t, file, made)
		}
	}
	for name, labels := range made {
		if got, listed := shown[name]; !listed || got != labels {
			t.Errorf("%s has the labels %q; operations.md lists it: %t, with %q", name, labels, listed, got)
		}
	}
	for _, name := range regexp.MustCompile(`registry_[a-z_]*[a-z]\b`).FindAllString(page+read(t, "proxy.md"), -1) {
		if _, there := made[name]; !there {
			t.Errorf("operations.md or proxy.md names %s, which is not there", name)
		}
	}
}

// metricsOf adds the metrics that a file makes, and their labels with commas between.
func metricsOf(t *testing.T, file string, to map[string]string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "../"+file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		options, ok := call.Args[0].(*ast.CompositeLit)
		if !ok {
			return true
		}
		if kind, ok := options.Type.(*ast.SelectorExpr); !ok || !strings.HasSuffix(kind.Sel.Name, "Opts") {
			return true
		}
		var labels []string
		if list, ok := call.Args[len(call.Args)-1].(*ast.CompositeLit); ok && list != options {
			for _, label := range list.Elts {
				labels = append(labels, literal(label))
			}
		}
		for _, e := range options.Elts {
			if field, ok := e.(*ast.KeyValueExpr); ok && field.Key.(*ast.Ident).Name == "Name" {
				to[literal(field.Value)] = strings.Join(labels, ", ")
			}
		}
		return true
	})
}

func literal(e ast.Expr) string { return strings.Trim(e.(*ast.BasicLit).Value, `"`) }
