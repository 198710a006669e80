package conformance

import (
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

// outcome is what one test of the suite came to, in its words.
type outcome string

const (
	passed  outcome = "Pass"
	skipped outcome = "Skip"
	failed  outcome = "FAIL"
)

// finding is the outcome of a test, or the worst of those of one name, and why.
type finding struct {
	outcome outcome
	why     string
}

// findings are those of the tests that read, by name.
type findings map[string]finding

// suite runs the suite. Its printed report is read: in a read-only run it ends, with a
// panic, before it has written others.
func (f findings) suite(t *testing.T, env ...string) {
	t.Helper()
	program, err := apiserver.Binary("conformance")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = t.TempDir() // no configuration file, and a place for reports
	cmd.Env = append(os.Environ(), "OCI_VERSION=1.1", "OCI_LOG=error", "OCI_API_BLOBS_DIGEST_HEADER=true")
	cmd.Env = append(cmd.Env, env...)
	output, _ := cmd.CombinedOutput() // that a test failed is in the report
	report, _, _ := strings.Cut(string(output), "\nConfiguration:\n")
	line := regexp.MustCompile(`(?m)^ *OCI Conformance Test/(.+): (Pass|FAIL|Skip|Disabled|Error|Unknown)$`)
	places := line.FindAllStringSubmatchIndex(report, -1)
	for i, at := range places {
		name, got := report[at[2]:at[3]], outcome(report[at[4]:at[5]])
		if !reads(name) {
			continue
		}
		why := report[at[1]:]
		if i+1 < len(places) {
			why = report[at[1]:places[i+1][0]]
		}
		if now := f[name].outcome; now == "" || now == passed || got == failed {
			f[name] = finding{got, strings.TrimSpace(why)}
		}
	}
	if len(places) == 0 {
		t.Fatalf("the suite gave no report:\n%s", output)
	}
}

// reads reports whether a test reads what clients pull. The others push and delete.
func reads(name string) bool {
	return !strings.Contains(name, "/push/") && slices.Contains([]string{
		"ping", "tag list", "tag-list", "referrers", "get-missing", "blob-head", "blob-get", "manifest-head-by-tag", "manifest-head-by-digest",
		"manifest-by-tag", "manifest-by-digest", "by-digest", "by-tag", "manifest-get",
	}, path.Base(name)) || strings.Contains(name, "/range requests/range ")
}
