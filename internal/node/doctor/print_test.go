package doctor

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

func TestMask(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"+  password = \"x y\"":                              "+  password = \"***\"",
		"  auth = \"eDp5\" # comment x":                      "  auth = \"***\"",
		"-\t'password' = '''x'''":                            "-\t'password' = \"***\"",
		" Authorization = [\"Basic eDp5\"]":                  " Authorization = \"***\"",
		"+X-Registry-Node-Token = \"x\"":                     "+X-Registry-Node-Token = \"***\"",
		"[a.auth]":                                           "[a.auth]",
		"auth = { username = \"x\", password = \"x\\\"y\" }": "auth = \"***\"",
		"a = { password = \"x\\\"y\", other = 1 }":           "a = { password = \"***\", other = 1 }",
		"header = { Authorization = [\"x\"] }":               "header = { Authorization = \"***\" }",
		"+config_path = \"/etc/containerd/registry.d\"":      "+config_path = \"/etc/containerd/registry.d\"",
		"a\n  password = \"x\"\r\n[b]":                       "a\n  password = \"***\"\r\n[b]",
	} {
		if got := mask(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	r := &Report{
		Containerd: Containerd{Runtime: "containerd", Version: "v1.7.35"},
		Problems:   []string{"something"}, Changes: []Change{{File: "/f", What: "w", Diff: "--- /f\n+++ /f\n@@ -1 +1 @@\n-a\n+b\n"}},
	}
	var terminal, pipe strings.Builder
	for to, p := range map[*strings.Builder]bool{&terminal: true, &pipe: false} {
		if err := (printer{to: to, terminal: p}).print(r); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{bold + "runtime", red + "problem" + plain + ": something\n", green + "+b" + plain + "\n", red + "not ready" + plain} {
		if !strings.Contains(terminal.String(), want) {
			t.Errorf("%q is missing in %q", want, terminal.String())
		}
	}
	if strings.Contains(pipe.String(), "\x1b") || !strings.Contains(pipe.String(), "\n+b\n") {
		t.Errorf("%q", pipe.String())
	}
}

// Files of the node say what is printed: names of hosts and paths, and a diff.
func TestWhatFilesSayIsPrintable(t *testing.T) {
	t.Parallel()
	const hostile = "x\x1b[2J\u009b\u202e\x07y"
	r := &Report{
		Containerd: Containerd{Runtime: hostile, Version: hostile, Effective: hostile},
		Problems:   []string{hostile}, Warnings: []string{hostile}, Changes: []Change{{File: hostile, What: hostile, Diff: "-" + hostile + "\n"}},
	}
	var out strings.Builder
	if err := (printer{to: &out}).print(r); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(out.String(), func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' }) || !strings.Contains(out.String(), "y") {
		t.Errorf("not printable: %q", out.String())
	}
}

// Programs find lists, empty ones too.
func TestJSONHasLists(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(&Report{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"users":[]`, `"problems":[]`, `"warnings":[]`, `"changes":[]`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s is not in %s", want, data)
		}
	}
}
