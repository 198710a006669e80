package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// opening is something in an example that is another cluster's: wherever the
// example says Text, Pattern may stand.
type opening struct{ Text, Pattern string }

var (
	colours   = regexp.MustCompile("\x1b\\[[0-9;]*m")
	timestamp = regexp.MustCompile(`"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"`)
	hashLine  = regexp.MustCompile(`^hash: [0-9a-f]{64}$`)
)

const timestampPattern = `"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"`

// plainLines are the lines of an output without colours, indentation and empty
// lines.
func plainLines(text string) []string {
	var lines []string
	for line := range strings.Lines(colours.ReplaceAllString(text, "")) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// compareLines compares an output with a printed example, line by line: "..."
// and ".." stand for a value, "# ..." for any lines, a time for any time. The
// hash may be left out of an example. The error names the first line that
// differs.
func compareLines(example, actual string, open ...opening) error {
	got := plainLines(actual)
	var anything bool
	for _, line := range plainLines(example) {
		if line == "# ..." {
			anything = true
			continue
		}
		want, err := linePattern(line, open)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(got, want.MatchString)
		switch {
		case at < 0:
			return fmt.Errorf("no line %q, as the example has it, in what is left:\n%s", line, strings.Join(got, "\n"))
		case at == 0, anything, at == 1 && hashLine.MatchString(got[0]):
			got = got[at+1:]
			// The lines of one item belong together: only its first is looked for.
			anything = false
		default:
			return fmt.Errorf("it says %q where the example has %q", got[0], line)
		}
	}
	if len(got) > 0 && (len(got) > 1 || !hashLine.MatchString(got[0])) {
		return fmt.Errorf("the example does not have %q", got[0])
	}
	return nil
}

// linePattern is a line of an example as a regular expression.
func linePattern(line string, open []opening) (*regexp.Regexp, error) {
	marks := []opening{{`"..."`, `"[^"]+"`}}
	if key, ok := strings.CutSuffix(line, ": .."); ok {
		line = key + ": \x00"
		marks = append(marks, opening{"\x00", `\S+`})
	}
	if t := timestamp.FindString(line); t != "" {
		marks = append(marks, opening{t, timestampPattern})
	}
	pattern := regexp.QuoteMeta(line)
	for _, o := range append(marks, open...) {
		pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta(o.Text), o.Pattern)
	}
	re, err := regexp.Compile("^" + pattern + "$")
	if err != nil {
		return nil, fmt.Errorf("make a pattern of %q: %w", line, err)
	}
	return re, nil
}

// compareLast is compareLines for an example that shows the end of a list:
// where "# ..." stands, the item that follows must be the last one.
func compareLast(example, actual string, open ...opening) error {
	var tail []string
	for _, line := range plainLines(example) {
		tail = append(tail, line)
		if line == "# ..." {
			tail = nil
		}
	}
	got := plainLines(actual)
	if len(got) < len(tail) || got[0] != "conditions:" {
		return fmt.Errorf("it has %d lines, the example's end %d", len(got), len(tail))
	}
	return compareLines(strings.Join(tail, "\n"), strings.Join(got[len(got)-len(tail):], "\n"), open...)
}

// row is a line of a table by its columns.
type row map[string]string

var cells = regexp.MustCompile(`\.\.\.|\S+(?: \S+)*`)

// table cuts a table as kubectl prints it. Cells stand under their heads; where
// they do not, as in the examples that were typed by hand, they are counted.
func table(text string) (heads []string, rows []row) {
	lines := strings.Split(strings.TrimRight(colours.ReplaceAllString(text, ""), "\n"), "\n")
	var starts []int
	for _, at := range cellsOf(lines[0]) {
		heads, starts = append(heads, lines[0][at[0]:at[1]]), append(starts, at[0])
	}
	for _, line := range lines[1:] {
		found := cellsOf(line)
		r := row{}
		for i, at := range found {
			column := i
			if len(found) != len(heads) {
				column = columnAt(starts, at[0])
			}
			r[heads[column]] = line[at[0]:at[1]]
		}
		rows = append(rows, r)
	}
	return heads, rows
}

// cellsOf are the cells of a line: two spaces are between them, or none and
// three dots.
func cellsOf(line string) [][]int {
	var all [][]int
	for _, at := range cells.FindAllStringIndex(line, -1) {
		text := line[at[0]:at[1]]
		if before, ok := strings.CutSuffix(text, " ..."); ok {
			all = append(all, []int{at[0], at[0] + len(before)}, []int{at[1] - len("..."), at[1]})
			continue
		}
		all = append(all, at)
	}
	return all
}

func columnAt(starts []int, offset int) int {
	column := 0
	for i, start := range starts {
		if start <= offset {
			column = i
		}
	}
	return column
}

// compareTable compares a table with a printed example. The example's columns
// must be there in its order, with any others where it has three dots. Names
// gives the example's names in this cluster; rows of names that it does not give
// are not compared.
func compareTable(example, actual string, names map[string]string) error {
	wantHeads, wantRows := table(example)
	gotHeads, gotRows := table(actual)
	at := -1
	for _, head := range wantHeads {
		if head == "..." {
			continue
		}
		next := slices.Index(gotHeads, head)
		if next <= at {
			return fmt.Errorf("the columns are %q, the example has %q", gotHeads, wantHeads)
		}
		at = next
	}
	compared := 0
	for _, want := range wantRows {
		name, here := names[want["NAME"]]
		if !here {
			continue
		}
		i := slices.IndexFunc(gotRows, func(r row) bool { return r["NAME"] == name })
		if i < 0 {
			return fmt.Errorf("there is no row %q, which stands for the example's %q", name, want["NAME"])
		}
		for _, head := range wantHeads {
			if head != "..." && head != "NAME" && gotRows[i][head] != want[head] {
				return fmt.Errorf("%s of %s is %q, in the example %q", head, name, gotRows[i][head], want[head])
			}
		}
		compared++
	}
	if compared == 0 {
		return fmt.Errorf("no row of the example was compared; it is known by %q", names)
	}
	return nil
}

// compareTree compares the output of tree with a printed example: every
// directory of the example must be there with its files; others may be there
// too.
func compareTree(example, actual string, open ...opening) error {
	got := folders(actual)
	for folder, files := range folders(example) {
		for _, o := range open {
			folder = strings.ReplaceAll(folder, o.Text, o.Pattern)
		}
		found, ok := got[folder]
		if !ok {
			return fmt.Errorf("there is no directory %s, as in the example", folder)
		}
		for _, file := range files {
			if !slices.Contains(found, file) {
				return fmt.Errorf("%s has %q, in the example %q", folder, found, files)
			}
		}
	}
	return nil
}

// folders are the directories of the first level of a tree, and what is in each.
func folders(text string) map[string][]string {
	all := map[string][]string{}
	var folder string
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimRight(line, "\n"), "\u00a0", " ")
		depth, name, ok := strings.Cut(line, "── ")
		if !ok {
			continue
		}
		if len([]rune(depth)) == 1 {
			folder = name
			all[folder] = nil
		} else {
			all[folder] = append(all[folder], name)
		}
	}
	return all
}
