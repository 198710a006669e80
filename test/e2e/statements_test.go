package e2e

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

var shownBy = regexp.MustCompile("`([a-z0-9/]+):([A-Za-z0-9_-]+)`")

// TestStatements holds docs/seeds.md against the timeline and the tree.
func TestStatements(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(root + "/docs/seeds.md")
	if err != nil {
		t.Fatal(err)
	}
	next := 1
	tests := map[string][]string{}
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		number, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if err != nil {
			continue // no row
		}
		if number != next {
			t.Errorf("row %d where row %d is expected", number, next)
		}
		next = number + 1
		if len(cells) != 3 || strings.TrimSpace(cells[1]) == "" {
			t.Errorf("row %d does not have three columns: %s", number, line)
			continue
		}
		for _, problem := range checkShown(cells[2], tests) {
			t.Errorf("row %d: %s", number, problem)
		}
	}
	if next != statements+1 {
		t.Errorf("the last row is %d, want %d", next-1, statements)
	}
}

// checkShown looks for all that a row says it is shown by; tests are the tests
// of folders that were read before.
func checkShown(cell string, tests map[string][]string) []string {
	named := shownBy.FindAllStringSubmatch(cell, -1)
	reason := regexp.MustCompile(`^ (No test|Not yet|Lifted on purpose|As row|Row|Rows|See rows) ?`).MatchString(cell)
	if len(named) == 0 && !reason {
		return []string{"it names no test, no step and no reason"}
	}
	var problems []string
	for _, m := range named {
		where, name := m[1], m[2]
		if where == "e2e" {
			if !slices.Contains(stepNames(), name) {
				problems = append(problems, "the timeline has no step "+name)
			}
			continue
		}
		if _, read := tests[where]; !read {
			tests[where] = testsIn(where)
		}
		if !slices.Contains(tests[where], name) {
			problems = append(problems, fmt.Sprintf("%s has no test %s", where, name))
		}
	}
	return problems
}

// testsIn are the tests of a folder, by the source: nothing is built for it.
func testsIn(folder string) []string {
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		return nil
	}
	var names []string
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			continue // somebody is at it; what it has is missed
		}
		for _, d := range tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

// TestCheckShownFails is about what TestStatements is for.
func TestCheckShownFails(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string]int{
		" `e2e:direct-a`, `deploy:TestSettings`: word for word ": 0,
		" No test, it is a text ":                                0,
		" because we say so ":                                    1,
		" `e2e:no-such-step` ":                                   1,
		" `deploy:TestNoSuchTest`, `nowhere:TestX` ":             2,
	} {
		if got := checkShown(cell, map[string][]string{}); len(got) != want {
			t.Errorf("%q: %q, want %d problems", cell, got, want)
		}
	}
}

// TestEveryStepIsNamed: a step that neither document needs says nothing.
func TestEveryStepIsNamed(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, e := range script() {
		for _, s := range e.inSteps() {
			named[s] = true
		}
	}
	// What the documents do not ask for, and users of a module do.
	for _, s := range []string{"install", "platform", "agent-hangs", "node-added", "node-reimaged", "upgrade", "rollback", "proxy-from-legacy", "legacy-again", "proxy", "direct-again", "uninstall", "files", "leftovers"} {
		named[s] = true
	}
	for _, s := range stepNames() {
		if !named[s] {
			t.Errorf("nothing names step %s", s)
		}
	}
}
