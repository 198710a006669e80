package docs_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/testregistry"
)

// Each registry of the page has a double that behaves as its row says, and each double
// a row.
func TestRegistriesAreTheDoubles(t *testing.T) {
	t.Parallel()
	page := read(t, "registries.md")
	var rows []string
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Za-z/ ]+) \|(?:[^|\n]+\|){3} ([^|\n]+) \| [^|\n]+ \|$`).FindAllStringSubmatch(page, -1) {
		if m[1] != "registry" {
			rows = append(rows, m[1]+": "+m[2])
		}
	}
	var doubles []string
	for _, p := range testregistry.Products() {
		doubles = append(doubles, p.Name+": "+p.String())
	}
	if !slices.Equal(rows, doubles) {
		t.Errorf("registries.md says:\n%s\nthe doubles are:\n%s", strings.Join(rows, "\n"), strings.Join(doubles, "\n"))
	}
}
