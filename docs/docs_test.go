// Package docs_test keeps the documents equal to the code they speak about.
package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	names "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
)

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The tables of switching.md and proxy.md have a row per step, numbered as the plans run.
func TestSwitchingShowsThePlans(t *testing.T) {
	t.Parallel()
	for _, page := range []struct {
		name, row string
		modes     []switchover.Mode // by column of numbers
	}{
		{"switching.md", `(?m)^\| (\w+) \| (\d*) ?\| (\d*) ?\|`, []switchover.Mode{switchover.Direct, switchover.Unmanaged}},
		{"proxy.md", `(?m)^\| (\w+) \| (\d+) \|`, []switchover.Mode{switchover.ModeProxy}},
	} {
		rows := regexp.MustCompile(page.row).FindAllStringSubmatch(read(t, page.name), -1)
		for i, mode := range page.modes {
			var documented []string
			for _, m := range rows {
				number := m[2+i]
				if number == "" {
					continue
				}
				documented = append(documented, m[1])
				if want := string(rune('0' + len(documented))); number != want {
					t.Errorf("%s has number %s for %s, its row is number %s", m[1], number, mode, want)
				}
			}
			want := append(switchover.Plan(mode), names.ConditionReady)
			if got := strings.Join(documented, " "); got != strings.Join(want, " ") {
				t.Errorf("%s says for %s:\n%s\nthe plan is:\n%s", page.name, mode, got, strings.Join(want, " "))
			}
		}
	}
}

// A decision is cited by its number.
func TestDecisionsAreNumbered(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("adr/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	for i, page := range pages {
		if !strings.HasPrefix(page, fmt.Sprintf("adr/%04d-", i+1)) || !strings.HasPrefix(read(t, page), fmt.Sprintf("# %d. ", i+1)) {
			t.Errorf("%s is number %d", page, i+1)
		}
	}
}

// Whoever meets a condition finds a page about it.
func TestEveryConditionHasARunbook(t *testing.T) {
	t.Parallel()
	conditions := []string{names.ConditionCleanupStores, names.ConditionReady}
	for _, mode := range []switchover.Mode{switchover.Direct, switchover.ModeProxy, switchover.Unmanaged} {
		conditions = append(conditions, switchover.Plan(mode)...)
	}
	for _, condition := range conditions {
		if page := read(t, "runbook/"+condition+".md"); !strings.HasPrefix(page, "# "+condition+"\n") {
			t.Errorf("runbook/%s.md does not begin with its condition's name", condition)
		}
	}
}

// Somebody on call finds the page of a step without knowing its name.
func TestRunbookListsItsPages(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("runbook/*.md")
	if err != nil {
		t.Fatal(err)
	}
	index := read(t, "runbook/README.md")
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(index, "]("+name+")") {
			t.Errorf("runbook/README.md does not link to %s", name)
		}
	}
}

// The map lists every package of ours, and none that is gone.
func TestMapListsThePackages(t *testing.T) {
	t.Parallel()
	page := read(t, "map.md")
	wings := []string{"internal/control", "internal/datapath", "internal/datapath/store", "internal/node"}
	for _, parent := range append([]string{"internal", "test/harness"}, wings...) {
		entries, err := os.ReadDir("../" + parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := parent + "/" + e.Name()
			if e.IsDir() && e.Name() != "testdata" && !slices.Contains(wings, path) && !strings.Contains(page, "`"+path+"`") {
				t.Errorf("map.md does not mention %s", path)
			}
		}
	}
	for _, m := range regexp.MustCompile("`((?:internal|test/harness)/[a-z/]+)`").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat("../" + m[1]); err != nil {
			t.Errorf("map.md mentions %s, which is not there", m[1])
		}
	}
}

// The folders at the root of the repository that hold what is written by hand.
var written = regexp.MustCompile(`^(\.ci|api|charts|cmd|demo|deploy|docs|hack|internal|test|tools)$`)

// files are those of the repository that a pattern matches, by their path from
// its root.
func files(t *testing.T, pattern *regexp.Regexp) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == "testdata" || path.Dir(name) == "." && name != "." && !written.MatchString(name)):
			return fs.SkipDir
		case e.Type().IsRegular() && pattern.MatchString(name):
			found = append(found, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no file is called %s", pattern)
	}
	return found
}

var (
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	code    = regexp.MustCompile("`[^`\n]+`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile("[^a-z0-9 _-]")
)

// anchors are what a link can name in a page, as GitHub makes them of headings.
func anchors(page string) []string {
	var names []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		names = append(names, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return names
}

// Every link of a page to another page, file or heading leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	links := 0
	for _, name := range files(t, regexp.MustCompile(`\.md$`)) {
		page := fence.ReplaceAllString(read(t, filepath.Join("..", name)), "")
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(page, ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			links++
			to := name
			if target != "" {
				to = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join("..", to)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, filepath.Join("..", to))), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], to)
			}
		}
	}
	if links < 50 {
		t.Errorf("only %d links were found", links)
	}
}

// What pages and comments cite is there.
func TestCitedFilesAreThere(t *testing.T) {
	t.Parallel()
	var (
		inPage    = regexp.MustCompile("`((?:\\.ci|api|charts|cmd|demo|deploy|docs|hack|internal|test|tools)/[A-Za-z0-9_./-]*[A-Za-z0-9_])[/`]")
		comment   = regexp.MustCompile(`(?m)(?:^\s*|\s)(?://|#|\{\{- /\*).*$`)
		inComment = regexp.MustCompile(`\b(?:charts|cmd|demo|deploy|docs|hack|internal|test)/[a-z0-9_./-]*[a-z0-9]\b|\b[A-Za-z0-9_./-]+\.md\b`)
	)
	for _, name := range files(t, regexp.MustCompile(`\.(md|go|sh|ya?ml|tpl)$`)) {
		text := read(t, filepath.Join("..", name))
		var cited []string
		if strings.HasSuffix(name, ".md") {
			for _, m := range inPage.FindAllStringSubmatch(text, -1) {
				cited = append(cited, m[1])
			}
		} else {
			for _, line := range comment.FindAllString(text, -1) {
				cited = append(cited, inComment.FindAllString(line, -1)...)
			}
		}
		for _, file := range cited {
			beside := path.Join(path.Dir(name), file)
			if !exists(file) && !exists(beside) {
				t.Errorf("%s cites %s, which is not there", name, file)
			}
		}
	}
}

// exists reports whether a path from the root is there. An ADR may be cited by
// its number.
func exists(name string) bool {
	found, err := filepath.Glob(filepath.Join("..", name) + "*")
	return err == nil && slices.ContainsFunc(found, func(f string) bool {
		return f == filepath.Join("..", name) || regexp.MustCompile(`/adr/\d{4}$`).MatchString(name)
	})
}

// Tests that pages name as `package:TestName` are there.
func TestNamedTestsAreThere(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile("`((?:internal|test|charts|deploy|demo|hack)[a-z0-9/]*):(Test\\w+)`")
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		for _, m := range named.FindAllStringSubmatch(read(t, page), -1) {
			found++
			files, err := filepath.Glob("../" + m[1] + "/*_test.go")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(files, func(file string) bool { return strings.Contains(read(t, file), "func "+m[2]+"(") }) {
				t.Errorf("%s names %s in %s, which is not there", page, m[2], m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d tests are named: has the form changed?", found)
	}
}

// Two changes of one page can leave rows without their table, and a heading twice.
func TestPagesAreWhole(t *testing.T) {
	t.Parallel()
	for _, file := range files(t, regexp.MustCompile(`\.md$`)) {
		var before string
		heading, code, table := map[string]bool{}, false, false
		for line := range strings.Lines(read(t, "../"+file)) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(strings.TrimSpace(line), "```"):
				code = !code
			case code:
			case strings.HasPrefix(line, "#"):
				if heading[line] {
					t.Errorf("%s has the heading %q twice", file, line)
				}
				heading[line] = true
			case !strings.HasPrefix(line, "|"):
				table = false
			case strings.HasPrefix(line, "|---"):
				table = true
			case !table && before != "":
				t.Errorf("%s has a row without a table: %.60s", file, line)
			}
			before = line
		}
	}
}

// Each attempt of an actor is in the threat model, and each test that it names is
// somewhere.
func TestThreatModelNamesItsTests(t *testing.T) {
	t.Parallel()
	page := read(t, "threat-model.md")
	var all strings.Builder
	for _, file := range files(t, regexp.MustCompile(`_test\.go$`)) {
		text := read(t, "../"+file)
		all.WriteString(text)
		if !strings.HasPrefix(file, "test/hostile/") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(t `).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("threat-model.md does not name %s of %s", m[1], file)
			}
		}
	}
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(all.String(), "func "+m[1]+"(t ") {
			t.Errorf("threat-model.md names %s, which is not there", m[1])
		}
	}
}

// Each rule of the protocol that the property test leaves out is on its page, and each
// number and test that the page names is there.
func TestProtocolNamesItsRules(t *testing.T) {
	t.Parallel()
	page := read(t, "protocol.md")
	var tests strings.Builder
	for _, file := range files(t, regexp.MustCompile(`_test\.go$`)) {
		tests.WriteString(read(t, "../"+file))
	}
	left := map[string]bool{}
	for _, m := range regexp.MustCompile(`\{name: "(R\d+) `).FindAllStringSubmatch(tests.String(), -1) {
		left[m[1]] = true
	}
	named := map[string]bool{}
	for _, rule := range regexp.MustCompile(`\bR\d+\b`).FindAllString(page, -1) {
		if named[rule] = true; !left[rule] {
			t.Errorf("protocol.md names %s, which no test leaves out", rule)
		}
	}
	for rule := range left {
		if !named[rule] {
			t.Errorf("protocol.md does not name %s", rule)
		}
	}
	for _, m := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(tests.String(), "func "+m[1]+"(t ") {
			t.Errorf("protocol.md names %s, which is not there", m[1])
		}
	}
	if len(left) < 20 {
		t.Errorf("only %d rules are left out: has the form changed?", len(left))
	}
}
