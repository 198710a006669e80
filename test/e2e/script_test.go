package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// allBlocks are the blocks of both documents.
func allBlocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, doc := range []string{docManage, docModule} {
		blocks, err := readDocument(doc)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, blocks...)
	}
	return all
}

func TestEveryLineIsInABlock(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{docManage, docModule} {
		data, err := documentFiles.ReadFile("testdata/seeds/" + doc)
		if err != nil {
			t.Fatal(err)
		}
		blocks, err := readDocument(doc)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			in := 0
			for _, b := range blocks {
				if b.First <= i+1 && i+1 <= b.Last {
					in++
				}
			}
			if want := min(len(strings.TrimSpace(line)), 1); in != want && (want == 1 || in > 1) {
				t.Errorf("%s:%d %q is in %d blocks", doc, i+1, line, in)
			}
		}
	}
}

func TestCutRefusesWhatIsNotClosed(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"```yaml\na: b", "{% alert level=\"info\" %}\nx", "<!-- x", "---\ntitle: x"} {
		if _, err := cut("doc", strings.Split(text, "\n")); err == nil {
			t.Errorf("%q is cut without an error", text)
		}
	}
}

func TestFenceIsDedented(t *testing.T) {
	t.Parallel()
	if got := blocksByLine(t, docManage)[187]; !strings.HasPrefix(got.Text, "apiVersion: deckhouse.io/v1alpha1\nkind: ModuleConfig\n") || !strings.HasSuffix(got.Text, "    registry:\n      mode: Unmanaged\n") {
		t.Errorf("the text is %q", got.Text)
	}
}

// TestScriptIsComplete fails when something of the documents is forgotten.
func TestScriptIsComplete(t *testing.T) {
	t.Parallel()
	entries := map[string]entry{}
	for _, e := range script() {
		at := fmt.Sprintf("%s:%d", e.doc, e.line)
		if _, twice := entries[at]; twice {
			t.Errorf("%s has two entries", at)
		}
		entries[at] = e
	}
	for _, b := range allBlocks(t) {
		e, ok := entries[b.String()]
		delete(entries, b.String())
		switch {
		case !ok && needsEntry(b):
			t.Errorf("%s is forgotten: %s %.60q", b, b.Kind, b.Text)
		case ok && !needsEntry(b):
			t.Errorf("%s says nothing, and has an entry", b)
		case ok && e.kind != b.Kind:
			t.Errorf("%s is %s, its entry says %s", b, b.Kind, e.kind)
		case ok && b.fence() && (e.how == howShown || e.how == howRows):
			t.Errorf("%s is to be run, applied or compared, not only %s", b, e.how)
		case ok && e.how != howRows && e.steps == "":
			t.Errorf("%s names no step", b)
		case ok && e.steps == "" && e.rows == "":
			t.Errorf("%s names neither steps nor rows", b)
		}
	}
	for at := range entries {
		t.Errorf("%s has an entry and is no block", at)
	}
}

func TestScriptNamesStepsAndRows(t *testing.T) {
	t.Parallel()
	steps := stepNames()
	for _, e := range script() {
		for _, s := range e.inSteps() {
			if !slices.Contains(steps, s) {
				t.Errorf("%s:%d names step %q, which the timeline does not have", e.doc, e.line, s)
			}
		}
		rows, err := rowNumbers(e.rows)
		if err != nil {
			t.Errorf("%s:%d: %v", e.doc, e.line, err)
		}
		for _, n := range rows {
			if n < 1 || n > statements {
				t.Errorf("%s:%d names row %d", e.doc, e.line, n)
			}
		}
	}
}

// stepNames are those of the timeline.
func stepNames() []string {
	var names []string
	for _, s := range timeline() {
		names = append(names, s.name)
	}
	return names
}

// rowNumbers reads "4-9 12".
func rowNumbers(text string) ([]int, error) {
	var all []int
	for _, part := range strings.Fields(text) {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		if err != nil {
			return nil, fmt.Errorf("rows %q: %w", text, err)
		}
		last, err := strconv.Atoi(to)
		if err != nil {
			return nil, fmt.Errorf("rows %q: %w", text, err)
		}
		for n := first; n <= last; n++ {
			all = append(all, n)
		}
	}
	return all, nil
}
