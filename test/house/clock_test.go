package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"
)

// clocks are what reads a clock of the wall, or makes a time of it that lasts. Differences of
// time.Now are of a clock that only goes on, so that waiting may go by it.
func clocks(name string) (wall, reads bool) {
	switch name {
	case "ModTime", "Chtimes", "Unix", "UnixMilli", "UnixNano", "Format", "AppendFormat", "MarshalText", "MarshalJSON", "Parse", "ParseTime", "Date", "Round":
		return true, true
	}
	return false, slices.Contains([]string{"Now", "Since", "Until"}, name)
}

// TestNothingOfAStoreReadsAClock: a clock that jumps by ten years must evict nothing, and
// serve nothing that should not be. Who waits reads time.Now, and is listed here.
func TestNothingOfAStoreReadsAClock(t *testing.T) {
	t.Parallel()
	waits := []string{"internal/datapath/store", "internal/datapath/store/disk", "internal/datapath/store/fill", "internal/datapath/store/cache", "internal/datapath/store/peer", "internal/datapath/store/images"}
	read := 0
	for _, s := range sources(t) {
		folder := path.Dir(s.name)
		if !within(folder, store) || s.test() || strings.HasSuffix(folder, "test") {
			continue
		}
		read++
		for name, at := range readsClock(s.file, slices.Contains(waits, folder)) {
			t.Errorf("%s:%d: %s reads a clock", s.name, s.fset.Position(at).Line, name)
		}
	}
	if read < 4 {
		t.Errorf("only %d files were read", read)
	}
}

// readsClock are the names that a file reads a clock by, and where.
func readsClock(file *ast.File, waits bool) map[string]token.Pos {
	found := map[string]token.Pos{}
	ast.Inspect(file, func(n ast.Node) bool {
		called, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		of, _ := called.X.(*ast.Ident)
		wall, reads := clocks(called.Sel.Name)
		ofTime := of != nil && of.Name == "time"
		if reads && ofTime && !waits ||
			wall && (ofTime || slices.Contains([]string{"ModTime", "Chtimes", "Unix", "UnixMilli", "UnixNano"}, called.Sel.Name)) {
			found[called.Sel.Name] = called.Pos()
		}
		return true
	})
	return found
}

// TestAClockIsNoticed is the negative control: each way to read a clock is found, and waiting is none.
func TestAClockIsNoticed(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"time.Now()":                             "Now",
		"time.Since(begun)":                      "Since",
		"time.Until(end)":                        "Until",
		"info.ModTime()":                         "ModTime",
		"os.Chtimes(name, at, at)":               "Chtimes",
		"at.Unix()":                              "Unix",
		"time.Unix(1, 0)":                        "Unix",
		"time.Parse(time.RFC3339, text)":         "Parse",
		"time.Date(2020, 1, 1, 0, 0, 0, 0, nil)": "Date",
		"time.After(wait)":                       "",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc f() { _ = "+body+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		found := readsClock(file, false)
		if _, ok := found[want]; want != "" && !ok || want == "" && len(found) > 0 {
			t.Errorf("%s: found %v, want %q", body, found, want)
		}
	}
}
