package nodescript

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func names(p plan) string {
	var all []string
	for _, s := range p.scripts {
		all = append(all, s.name)
	}
	return strings.Join(all, " ")
}

func TestOrder(t *testing.T) {
	t.Parallel()
	all := []script{}
	for _, s := range []struct {
		name   string
		weight int32
	}{{"z", 0}, {"b", 100}, {"a.sh", 100}, {"a", 100}, {"a-b", 100}, {"thousand", 1000}, {"nine", 9}, {"before", -5}, {"c", 32}} {
		one := script100(s.name, "true")
		one.weight = s.weight
		all = append(all, one)
	}
	if got, want := names(makePlan(all, selector{})), "before z nine c a a-b a.sh b thousand"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}

// Between 0 and 999 the order is that of the platform's file names.
func TestOrderIsThatOfFileNames(t *testing.T) {
	t.Parallel()
	var all []script
	for _, name := range []string{"a", "a.sh", "a-b", "ab", "b", "0", "10"} {
		for _, weight := range []int32{0, 1, 9, 10, 99, 100, 101, 999} {
			s := script100(name, "true")
			s.weight = weight
			all = append(all, s)
		}
	}
	var files []string
	for _, s := range makePlan(all, selector{}).scripts {
		files = append(files, s.file())
	}
	if !slices.IsSorted(files) || len(files) != len(all) {
		t.Errorf("not in lexical order: %v", files)
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	debian := []string{"debian", "debian-12"}
	for _, tt := range []struct {
		name            string
		groups, bundles []string
		here            selector
		want            bool
	}{
		{"everywhere", []string{"*"}, []string{"*"}, selector{"worker", debian}, true},
		{"its group", []string{"master", "worker"}, []string{"*"}, selector{"worker", debian}, true},
		{"another group", []string{"master"}, []string{"*"}, selector{"worker", debian}, false},
		{"no label, any group", []string{"*"}, []string{"*"}, selector{"", debian}, true},
		{"no label, some group", []string{"worker"}, []string{"*"}, selector{"", debian}, false},
		{"no label, an empty group", []string{""}, []string{"*"}, selector{"", debian}, false},
		{"its bundle", []string{"*"}, []string{"centos", "debian"}, selector{"worker", debian}, true},
		{"its version", []string{"*"}, []string{"debian-12"}, selector{"worker", debian}, true},
		{"another version", []string{"*"}, []string{"debian-11"}, selector{"worker", debian}, false},
		{"unknown system, any bundle", []string{"*"}, []string{"*"}, selector{"worker", nil}, true},
		{"unknown system, some bundle", []string{"*"}, []string{"debian"}, selector{"worker", nil}, false},
		{"a star is no pattern", []string{"work*"}, []string{"*"}, selector{"worker", debian}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.here.selects(script{groups: tt.groups, bundles: tt.bundles}); got != tt.want {
				t.Errorf("runs: %v", got)
			}
		})
	}
}

func TestChecksum(t *testing.T) {
	t.Parallel()
	base := []script{script100("a", "one"), script100("b", "two")}
	same := makePlan(base, selector{group: "worker"}).checksum
	for name, edit := range map[string]func([]script) []script{
		"content":        func(s []script) []script { s[1].content = "three"; return s },
		"weight":         func(s []script) []script { s[1].weight = 101; return s },
		"one more":       func(s []script) []script { return append(s, script100("c", "")) },
		"one less":       func(s []script) []script { return s[:1] },
		"no longer here": func(s []script) []script { s[0].groups = []string{"master"}; return s },
		"text moved":     func(s []script) []script { s[0].content, s[1].content = "onet", "wo"; return s },
	} {
		if makePlan(edit(slices.Clone(base)), selector{group: "worker"}).checksum == same {
			t.Errorf("%s: the same plan", name)
		}
	}
	for name, edit := range map[string]func([]script) []script{
		"generation":  func(s []script) []script { s[1].generation = 7; return s },
		"listed anew": func(s []script) []script { slices.Reverse(s); return s },
		"more groups": func(s []script) []script { s[0].groups = []string{"*", "master"}; return s },
		"one for others": func(s []script) []script {
			return append(s, script{name: "c", groups: []string{"x"}, bundles: []string{"*"}})
		},
	} {
		if makePlan(edit(slices.Clone(base)), selector{group: "worker"}).checksum != same {
			t.Errorf("%s: another plan", name)
		}
	}
}

func TestForgottenLabel(t *testing.T) {
	t.Parallel()
	s, other := script100("a", "x"), script100("b", "x")
	s.groups, other.groups, other.bundles = []string{"worker", "master"}, []string{"x"}, []string{"altlinux"}
	want := "the Node has no label node.deckhouse.io/group (forgotten?): scripts for node groups master, worker do not run on it"
	if got := makePlan([]script{s, s, other}, selector{bundles: []string{"debian"}}).warnings; len(got) != 1 || got[0] != want {
		t.Errorf("warnings %q", got)
	}
	if got := makePlan([]script{s, other}, selector{group: "system", bundles: []string{"debian"}}).warnings; len(got) != 0 {
		t.Errorf("warnings %q of a node with a label", got)
	}
}

func TestBundles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ release, want string }{
		{"ID=debian\nVERSION_ID=\"12\"\n", "debian debian-12"},
		{"NAME=Ubuntu\nID=ubuntu\nVERSION_ID='22.04'\n", "ubuntu ubuntu-22.04 ubuntu-lts ubuntu-lts-22.04"},
		{"ID=\"rocky\"\nVERSION_ID=\"9.3\"", "centos centos-9.3 rocky rocky-9.3"},
		{"#ID=x\n  ID=altlinux", "altlinux"},
		{"", "linux"},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "usr/lib"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(root, "usr/lib/os-release"), tt.release, 0o600)
		got, err := bundles(root)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %v %v, want %s", tt.release, got, err, tt.want)
		}
	}
	if _, err := bundles(t.TempDir()); err == nil {
		t.Error("no os-release is no error")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := script100("a", "echo 1\necho \x00").check(); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a NUL byte: %v", err)
	}
	if err := script100("../a", "x").check(); err == nil {
		t.Error("a path is a name")
	}
	if err := script100("custom-registry.sh", "x").check(); err != nil {
		t.Error(err)
	}
}

// FuzzFile: whatever a name is, its file is one file in its folder, and no
// other script's.
func FuzzFile(f *testing.F) {
	for _, name := range []string{"custom-registry", "..", "../../etc/passwd", "/", "", "a\x00b", strings.Repeat("a", 253), strings.Repeat("a", 252) + "b", ".hidden", "a/b"} {
		f.Add(name, int32(0), "other")
	}
	f.Add("a", int32(math.MinInt32), "b")
	f.Fuzz(func(t *testing.T, name string, weight int32, other string) {
		s := script{name: name, weight: weight}
		file := s.file() + ".log"
		if filepath.Base(file) != file || file[0] == '.' || len(file) > 255 || strings.ContainsRune(file, 0) || !filepath.IsLocal(file) {
			t.Errorf("%q: file %q", name, file)
		}
		if o := (script{name: other, weight: weight}); name != other && o.file() == s.file() {
			t.Errorf("%q and %q have one file", name, other)
		}
	})
}
