package containerd_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/node/containerd"
	"github.com/d8-registry/registry/test/harness/parts"
)

const page = "../../../docs/nodes.md"

const pageHead = `# Nodes of known distributions

What ` + "`registry-agent doctor`" + ` says of each, and what a switch does there. ` + "`TestNodes`" + ` made this page: it shows the layouts of
[testdata/nodes](../internal/node/containerd/testdata/nodes), written after the public pages that are linked, to the real
binaries of containerd 1.6, 1.7 and 2.x. No node of these distributions was at hand: trust doctor on yours ([doctor.md](doctor.md)).

A main file that some other program writes anew is recognised by what happens as well: if config_path is gone after the restart,
or before it, the agent stops, says so, and restarts nothing again until the file means something else.

`

// TestNodes shows the layouts of known distributions to each containerd, and
// keeps the page about them equal to what is found.
func TestNodes(t *testing.T) {
	t.Parallel()
	parts.Need(t) // a part of the page would not be the page
	files, err := filepath.Glob("testdata/nodes/*.txtar")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	found := make([]map[string]containerd.Facts, len(files))
	t.Run("read", func(t *testing.T) {
		for i, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				found[i] = corpus(t, file)
			})
		}
	})
	if t.Failed() {
		return
	}
	var b strings.Builder
	b.WriteString(pageHead)
	for i, file := range files {
		f := readFixture(t, file)
		if f.title == "" || f.follows == "" {
			t.Errorf("%s: no title, or no page that it follows", file)
		}
		fmt.Fprintf(&b, "## %s\n\n", f.title)
		if when := found[i][f.versions[0]].Distribution.When(); when != "" {
			fmt.Fprintf(&b, "%s is written anew %s. ", f.config, when)
		}
		fmt.Fprintf(&b, "After %s.\n\n| containerd | doctor says | a switch |\n|---|---|---|\n", links(f.follows))
		rows(&b, f, found[i])
		b.WriteString("\n")
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(page); err != nil || string(data) != text {
		t.Errorf("%s is not what was found (%v); go test -run TestNodes -update writes it", page, err)
	}
}

// rows are those of one distribution; versions of which the same is said share
// one.
func rows(b *strings.Builder, f fixture, found map[string]containerd.Facts) {
	var versions []string
	for i, v := range f.versions {
		versions = append(versions, v)
		row := says(found[v])
		if i+1 < len(f.versions) && says(found[f.versions[i+1]]) == row {
			continue
		}
		fmt.Fprintf(b, "| %s | %s |\n", strings.Join(versions, ", "), row)
		versions = nil
	}
}

// says is what doctor says, and what a switch does.
func says(f containerd.Facts) string {
	var lines []string
	for _, p := range f.Problems {
		lines = append(lines, "problem: "+p.String())
	}
	if len(lines) == 0 && f.Message != "" {
		lines = append(lines, "problem: "+f.Message)
	}
	for _, w := range f.Warnings {
		lines = append(lines, "warning: "+w)
	}
	if f.Preflight == containerd.Ready {
		lines = append(lines, "ready")
	}
	text := strings.Join(lines, "<br>") + " | " + f.Plan()
	for _, field := range strings.Fields(text) { // a version's own number is of no interest
		if strings.HasPrefix(field, "v1.") || strings.HasPrefix(field, "v2.") || strings.HasPrefix(field, "1.6.") {
			text = strings.ReplaceAll(text, "containerd "+field, "containerd")
		}
	}
	return text
}

func links(pages string) string {
	var out []string
	for one := range strings.SplitSeq(pages, ", ") {
		url, about, _ := strings.Cut(one, " ")
		out = append(out, strings.TrimSpace("<"+url+"> "+about))
	}
	return strings.Join(out, " and ")
}
