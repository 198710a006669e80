package house

import (
	"go/ast"
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
	waits := []string{"internal/datapath/store", "internal/datapath/store/fill", "internal/datapath/store/cache", "internal/datapath/store/peer", "internal/datapath/store/images"}
	read := 0
	for _, s := range sources(t) {
		folder := path.Dir(s.name)
		if !within(folder, store) || s.test() || strings.HasSuffix(folder, "test") {
			continue
		}
		read++
		ast.Inspect(s.file, func(n ast.Node) bool {
			called, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			of, _ := called.X.(*ast.Ident)
			wall, reads := clocks(called.Sel.Name)
			ofTime := of != nil && of.Name == "time"
			bad := reads && ofTime && !slices.Contains(waits, folder) ||
				wall && (ofTime || slices.Contains([]string{"ModTime", "Chtimes", "Unix", "UnixMilli", "UnixNano"}, called.Sel.Name))
			if bad {
				t.Errorf("%s:%d: %s reads a clock", s.name, s.fset.Position(called.Pos()).Line, called.Sel.Name)
			}
			return true
		})
	}
	if read < 4 {
		t.Errorf("only %d files were read", read)
	}
}
