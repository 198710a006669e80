// Package docs_test keeps the documents equal to the code they speak about.
package docs_test

import (
	"os"
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

// The table of switching.md has a row per step, numbered as the plans run.
func TestSwitchingShowsThePlans(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile(`(?m)^\| (\w+) \| (\d*) ?\| (\d*) ?\|`)
	documented := map[switchover.Mode][]string{}
	for _, m := range row.FindAllStringSubmatch(read(t, "switching.md"), -1) {
		for mode, number := range map[switchover.Mode]string{switchover.Direct: m[2], switchover.Unmanaged: m[3]} {
			if number == "" {
				continue
			}
			documented[mode] = append(documented[mode], m[1])
			if want := string(rune('0' + len(documented[mode]))); number != want {
				t.Errorf("%s has number %s for %s, its row is number %s", m[1], number, mode, want)
			}
		}
	}
	for _, mode := range []switchover.Mode{switchover.Direct, switchover.Unmanaged} {
		want := append(switchover.Plan(mode), names.ConditionReady)
		if got := strings.Join(documented[mode], " "); got != strings.Join(want, " ") {
			t.Errorf("switching.md says for %s:\n%s\nthe plan is:\n%s", mode, got, strings.Join(want, " "))
		}
	}
}

// Whoever meets a condition finds a page about it.
func TestEveryConditionHasARunbook(t *testing.T) {
	t.Parallel()
	conditions := append(switchover.Plan(switchover.Direct), switchover.Plan(switchover.Unmanaged)...)
	for _, condition := range append(conditions, names.ConditionReady) {
		if page := read(t, "runbook/"+condition+".md"); !strings.HasPrefix(page, "# "+condition+"\n") {
			t.Errorf("runbook/%s.md does not begin with its condition's name", condition)
		}
	}
}

// The map lists every package of ours, and none that is gone.
func TestMapListsThePackages(t *testing.T) {
	t.Parallel()
	page := read(t, "map.md")
	wings := []string{"internal/control", "internal/datapath", "internal/node"}
	for _, parent := range append([]string{"../internal", "../test/harness"}, "../"+wings[0], "../"+wings[1], "../"+wings[2]) {
		entries, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := strings.TrimPrefix(parent, "../") + "/" + e.Name()
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

// Operations lists every metric of the data path, and none that is gone: an
// alert on a metric that nobody has is never raised.
func TestOperationsListsTheMetrics(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`registry_proxy_[a-z]+(_[a-z]+)*`)
	page := name.FindAllString(read(t, "operations.md"), -1)
	code := name.FindAllString(read(t, "../internal/datapath/proxy/metrics.go")+read(t, "../internal/datapath/gateway/health.go"), -1)
	for _, lists := range []struct {
		from, to []string
		problem  string
	}{{code, page, "operations.md does not list %s"}, {page, code, "operations.md names %s, which is not there"}} {
		for _, metric := range lists.from {
			if !slices.Contains(lists.to, metric) {
				t.Errorf(lists.problem, metric)
			}
		}
	}
}
