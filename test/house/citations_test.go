package house

import (
	"go/ast"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A citation is a path from the root of the repository, or the bare name of a
// document or of a Go file beside the comment.
var (
	citedPath = regexp.MustCompile(`(?:^|[\s(\x60"'])((?:api|charts|cmd|demo|deploy|docs|hack|internal|test|tools)/[\w*./-]*[\w*])`)
	citedFile = regexp.MustCompile(`(?:^|[\s(\x60"'])([\w*-]+\.(?:go|md))\b`)
	adr       = regexp.MustCompile(`^docs/adr/\d{4}$`)
)

// cited are the files and folders that a comment names.
func cited(comment string) (paths, names []string) {
	for _, m := range citedPath.FindAllStringSubmatch(comment, -1) {
		paths = append(paths, m[1])
	}
	for _, m := range citedFile.FindAllStringSubmatch(comment, -1) {
		names = append(names, m[1])
	}
	return paths, names
}

// comments are the texts of comments in a file, by file and line.
func comments(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, s := range sources(t) {
		for _, group := range s.file.Comments {
			position := s.fset.Position(group.Pos())
			all[s.name+":"+strconv.Itoa(position.Line)] = text(group)
		}
	}
	for _, name := range files(t) {
		if base := path.Base(name); base != "Makefile" && base != "run" && !strings.HasSuffix(base, ".sh") && !strings.HasSuffix(base, ".yaml") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			if at := strings.Index(" "+line, " #"); at >= 0 {
				all[name+":"+strconv.Itoa(i+1)] = line[at:]
			}
		}
	}
	return all
}

func text(group *ast.CommentGroup) string {
	lines := make([]string, 0, len(group.List))
	for _, c := range group.List {
		lines = append(lines, c.Text)
	}
	return strings.Join(lines, "\n")
}

func TestCitationsAreThere(t *testing.T) {
	t.Parallel()
	found := 0
	for at, comment := range comments(t) {
		file, _, _ := strings.Cut(at, ":")
		paths, names := cited(comment)
		found += len(paths) + len(names)
		for _, p := range paths {
			if !there(p) {
				t.Errorf("%s: there is no %s", at, p)
			}
		}
		for _, name := range names {
			if !there(path.Join(path.Dir(file), name)) && !there(name) {
				t.Errorf("%s: there is no %s here", at, name)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d citations are found: does the search work?", found)
	}
}

// there reports whether a path, which may have a *, is in the repository. An ADR
// is named by its number.
func there(name string) bool {
	if adr.MatchString(name) {
		name += "-*.md"
	}
	matches, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil && len(matches) > 0
}

// TestCited shows what a citation is.
func TestCited(t *testing.T) {
	t.Parallel()
	for comment, want := range map[string]string{
		"// See docs/switching.md.":                   "docs/switching.md",
		"// internal/control/controller, and more":    "internal/control/controller",
		"// Stories are story_*.go; start at main.go": "story_*.go main.go",
		"# see (`hack/parts.sh`)":                     "hack/parts.sh",
		"// example.com/test/x.md is elsewhere":       "",
	} {
		paths, names := cited(comment)
		if got := strings.Join(append(paths, names...), " "); got != want {
			t.Errorf("%s: cites %q, want %q", comment, got, want)
		}
	}
}
