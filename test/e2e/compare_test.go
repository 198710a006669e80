package e2e

import (
	"strings"
	"testing"
)

// printed is what the documented command prints in our cluster.
const printed = "\x1b[36mconditions\x1b[0m:\n" + `  - lastTransitionTime: "2026-11-15T12:52:46Z"
    message: 'a.example: all 12 items are checked'
    reason: Ready
    status: "True"
    type: RegistryContainsRequiredImages
  - lastTransitionTime: "2026-11-15T12:52:47Z"
    message: ""
    reason: ""
    status: "True"
    type: Ready
hash: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
mode: Direct
target_mode: Direct
`

const exampleEnd = `conditions:
# ...
  - lastTransitionTime: "..."
    message: ""
    reason: ""
    status: "True"
    type: Ready
hash: ..
mode: Direct
target_mode: Direct
`

const exampleWhole = `conditions:
  - lastTransitionTime: "2025-07-15T12:52:46Z"
    message: 'registry.deckhouse.ru: all 157 items are checked'
    reason: Ready
    status: "True"
    type: RegistryContainsRequiredImages
  - lastTransitionTime: "2025-07-11T11:59:03Z"
    message: ""
    reason: ""
    status: "True"
    type: Ready
mode: Direct
target_mode: Direct
`

func TestCompareLines(t *testing.T) {
	t.Parallel()
	open := []opening{{"registry.deckhouse.ru", `a\.example`}, {"157", `[0-9]+`}}
	for _, c := range []struct{ name, example, from, to, err string }{
		{name: "the whole status, its hash left out", example: exampleWhole},
		{name: "another message", example: exampleWhole, from: "all 12 items are checked", to: "3 of 12 items processed", err: "no line"},
		{name: "another order of keys", example: exampleWhole, from: "message: \"\"\n    reason: \"\"", to: "reason: \"\"\n    message: \"\"", err: "it says"},
		{name: "a condition too many", example: exampleWhole, from: "hash:", to: "  - type: Other\nhash:", err: "it says"},
		{name: "False", example: exampleWhole, from: "\"True\"\n    type: Ready", to: "\"False\"\n    type: Ready", err: "no line"},
		{name: "something after it", example: exampleWhole, from: "target_mode: Direct", to: "target_mode: Direct\nstate: x", err: "does not have"},
		{name: "another mode", example: exampleWhole, from: "\nmode: Direct", to: "\nmode: Unmanaged", err: "no line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkCompared(t, compareLines(c.example, replaced(t, c.from, c.to), open...), c.err)
		})
	}
}

func TestCompareLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, from, to, err string }{
		{name: "as printed"},
		{name: "no hash", from: "hash: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n", to: "", err: "it says"},
		{name: "Ready is not the last", from: "type: Ready\n", to: "type: Ready\n  - type: Other\n", err: "no line"},
		{name: "False", from: "\"True\"\n    type: Ready", to: "\"False\"\n    type: Ready", err: "no line"},
		{name: "another mode", from: "\nmode: Direct", to: "\nmode: Unmanaged", err: "no line"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkCompared(t, compareLast(exampleEnd, replaced(t, c.from, c.to)), c.err)
		})
	}
}

func TestWithoutNames(t *testing.T) {
	t.Parallel()
	in := "    message: |\n      Names that are still in use and served by b:\n      - a: Pod x\n      - c: Pod y\n    reason: \"\"\n"
	if got, want := withoutNames(in), "    message: \"\"\n    reason: \"\"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	other := "    message: |\n      Something else:\n      - a\n    reason: \"\"\n"
	if got := withoutNames(other); got != other {
		t.Errorf("%q", got)
	}
}

func replaced(t *testing.T, from, to string) string {
	t.Helper()
	if !strings.Contains(printed, from) {
		t.Fatalf("%q is not in what is changed", from)
	}
	return strings.Replace(printed, from, to, 1)
}

func checkCompared(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("the error is %v, want one with %q", err, want)
	}
}

func TestCompareTable(t *testing.T) {
	t.Parallel()
	const nodes = `NAME   STATUS                     ROLES                  AGE   VERSION
m0     Ready,SchedulingDisabled   control-plane,master   3m    v1.35.4
w1     Ready                      <none>                 3m    v1.35.4
`
	const module = `NAME       WEIGHT   STAGE   RELEASE CHANNEL   SOURCE   VERSION   PHASE   ENABLED   DISABLED MESSAGE   READY
registry   38                                  Embedded   v0.1.0    Ready   True                         True
`
	documented := blocksByLine(t, docManage)
	cordoned, running := documented[78].Text, documented[93].Text
	for _, c := range []struct {
		name, example, actual string
		names                 map[string]string
		err                   string
	}{
		{name: "a cordoned master", example: cordoned, actual: nodes, names: map[string]string{"master-2": "m0"}},
		{name: "not cordoned", example: cordoned, actual: nodes, names: map[string]string{"master-0": "m0"}, err: "STATUS of m0"},
		{name: "no such row", example: cordoned, actual: nodes, names: map[string]string{"master-2": "m9"}, err: "no row"},
		{name: "nothing to compare", example: cordoned, actual: nodes, err: "no row of the example"},
		{name: "the module", example: running, actual: module, names: map[string]string{"registry": "registry"}},
		{name: "disabled", example: running, actual: strings.Replace(module, "Ready   True ", "Ready   False", 1), names: map[string]string{"registry": "registry"}, err: "ENABLED"},
		{name: "a message", example: running, actual: strings.Replace(module, "True                         ", "True      because            ", 1), names: map[string]string{"registry": "registry"}, err: "DISABLED MESSAGE"},
		{name: "a column less", example: running, actual: nodes, names: map[string]string{"registry": "registry"}, err: "columns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			checkCompared(t, compareTable(c.example, c.actual, c.names), c.err)
		})
	}
}

func TestCompareTree(t *testing.T) {
	t.Parallel()
	example := blocksByLine(t, docManage)[225].Text
	const tree = "/etc/containerd/registry.d\n├── a.example\n│\u00a0\u00a0 ├── ca.crt\n│\u00a0\u00a0 └── hosts.toml\n├── registry.d8-system.svc:5001\n│\u00a0\u00a0 ├── ca.crt\n│\u00a0\u00a0 └── hosts.toml\n└── registry.io\n    └── hosts.toml\n\n3 directories, 5 files\n"
	open := opening{"registry.deckhouse.ru", "a.example"}
	checkCompared(t, compareTree(example, tree, open), "")
	checkCompared(t, compareTree(example, tree), "no directory registry.deckhouse.ru")
	checkCompared(t, compareTree(example, strings.Replace(tree, "│\u00a0\u00a0 ├── ca.crt\n", "", 1), open), "a.example has")
}

// blocksByLine are the blocks of a document by their first line.
func blocksByLine(t *testing.T, doc string) map[int]block {
	t.Helper()
	blocks, err := readDocument(doc)
	if err != nil {
		t.Fatal(err)
	}
	byLine := map[int]block{}
	for _, b := range blocks {
		byLine[b.First] = b
	}
	return byLine
}
