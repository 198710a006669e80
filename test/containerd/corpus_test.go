package containerd

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/node/usermirror"
)

var update = flag.Bool("update", false, "rewrite golden files")

// TestCorpus reads testdata/corpus/*.txtar: a comment that says what the case
// is about; layout.yaml; effective, the directory in which containerd looks
// (users write to registry.d); and before/, what is on the node. What comes of
// it follows: after/, each file that is ours or has a part of ours;
// containerd, what containerd's own code reads for every host; and problems,
// what the user reads. The way back always ends with before/, to the byte.
// @ stands for the node's folder, CA-A, CA-B and CA-AGENT for certificates.
func TestCorpus(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newCase(t, ar).play(t)
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want := string(txtar.Format(got)), string(txtar.Format(ar)); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// kase is one file of the corpus on a disk.
type kase struct {
	given  *txtar.Archive
	dir    string
	layout layout.Layout
	node   usermirror.Node
	agent  hostsdir.Options
	before map[string]string
	hosts  map[string]bool
}

func newCase(t *testing.T, ar *txtar.Archive) *kase {
	t.Helper()
	k := &kase{given: &txtar.Archive{Comment: ar.Comment}, dir: t.TempDir(), hosts: map[string]bool{"nobody.example.com": true}}
	k.agent = hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: hostsToken, AgentCA: certificate(t, "CA-AGENT")}
	k.node = usermirror.Node{Root: "/", Source: filepath.Join(k.dir, "registry.d")}
	for _, f := range ar.Files {
		name, isBefore := strings.CutPrefix(f.Name, "before/")
		switch {
		case f.Name == "layout.yaml":
			if err := yaml.UnmarshalStrict([]byte(expandYAML(t, string(f.Data))), &k.layout); err != nil {
				t.Fatal(err)
			}
			for _, r := range k.layout.Routes {
				k.hosts[r.Name.Host] = true
			}
		case f.Name == "effective":
			k.node.Effective = filepath.Join(k.dir, strings.TrimSpace(string(f.Data)))
		case isBefore:
			path := filepath.Join(k.dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Dir(path), filepath.Base(path), []byte(k.expand(t, string(f.Data))))
			// A file that somebody may just be writing is left alone for a moment.
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			if filepath.Base(path) == "hosts.toml" {
				k.hosts[filepath.Base(filepath.Dir(path))] = true
			}
		default:
			continue // what is to come of it
		}
		k.given.Files = append(k.given.Files, f)
	}
	k.before = k.files(t)
	return k
}

// play goes there and back.
func (k *kase) play(t *testing.T) *txtar.Archive {
	t.Helper()
	problems := k.apply(t, k.layout)
	out := &txtar.Archive{Comment: k.given.Comment, Files: slices.Clip(k.given.Files)}
	after := k.files(t)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] != k.before[name] && !strings.HasSuffix(name, ".json") {
			out.Files = append(out.Files, txtar.File{Name: "after/" + name, Data: []byte(k.fold(t, after[name]))})
		}
	}
	var reads strings.Builder
	for _, host := range slices.Sorted(maps.Keys(k.hosts)) {
		fmt.Fprintf(&reads, "%s\n", host)
		endpoints, err := tryRead(t, k.node.Effective, host)
		for _, p := range endpoints {
			fmt.Fprintf(&reads, "  %s\n", p)
		}
		if err != nil {
			fmt.Fprintf(&reads, "  no image can be pulled: %s\n", k.fold(t, err.Error()))
		}
	}
	out.Files = append(out.Files, txtar.File{Name: "containerd", Data: []byte(strings.ReplaceAll(reads.String(), "\n\n", "\n"))})
	if problems != "" {
		out.Files = append(out.Files, txtar.File{Name: "problems", Data: []byte(k.fold(t, problems))})
	}
	k.apply(t, layout.Layout{})
	if back := k.files(t); !maps.Equal(back, k.before) {
		t.Errorf("after the way back:\n%q\nbefore:\n%q", back, k.before)
	}
	return out
}

// apply does what the agent does with a layout, on the way there and back.
func (k *kase) apply(t *testing.T, l layout.Layout) (problems string) {
	t.Helper()
	p := usermirror.NewPlan(k.node, l, k.agent)
	tree, err := hostsdir.Render(l, k.agent)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := hostsdir.MakeDir(k.node.Effective)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	res, err := hostsdir.Apply(folder, p.Tree(tree))
	if err != nil {
		t.Fatal(err)
	}
	applied, err := p.Apply()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, problem := range append(p.Problems, applied.Problems...) {
		fmt.Fprintln(&out, problem)
	}
	for _, claim := range p.Claims {
		fmt.Fprintln(&out, claim.Text)
	}
	for _, c := range res.Conflicts {
		fmt.Fprintf(&out, "conflict %+v\n", c)
	}
	return out.String()
}

// files are all files, by name, with their modes.
func (k *kase) files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(k.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, k.dir+"/")] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func names() []string { return []string{"CA-AGENT", "CA-A", "CA-B"} }

func certificate(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("../../internal/node/hostsdir/testdata/" + name + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// expandYAML puts certificates where a layout names them, as YAML strings.
func expandYAML(t testing.TB, text string) string {
	for _, name := range names() {
		text = strings.ReplaceAll(text, " "+name, fmt.Sprintf(" %q", certificate(t, name)))
	}
	return text
}

func (k *kase) expand(t testing.TB, text string) string {
	for _, name := range names() {
		text = strings.ReplaceAll(text, name+"\n", certificate(t, name))
	}
	return strings.ReplaceAll(text, "@", k.dir)
}

func (k *kase) fold(t testing.TB, text string) string {
	for _, name := range names() {
		text = strings.ReplaceAll(text, certificate(t, name), name+"\n")
	}
	if text = strings.ReplaceAll(text, k.dir, "@"); !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

// TestRenderedCorpusIsReadAsMeant lets containerd read every tree of the
// corpus of Render.
func TestRenderedCorpusIsReadAsMeant(t *testing.T) {
	t.Parallel()
	versions := oracles(t)
	files, err := filepath.Glob("../../internal/node/hostsdir/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(ar.Files, func(f txtar.File) bool { return f.Name == "want/error" }) {
				return
			}
			var l layout.Layout
			if err := yaml.UnmarshalStrict([]byte(expandYAML(t, string(ar.Files[0].Data))), &l); err != nil {
				t.Fatal(err)
			}
			checkTree(t, l, hostsdir.Options{AgentURL: "https://127.0.0.1:5001", Token: hostsToken, AgentCA: certificate(t, "CA-AGENT")}, versions)
		})
	}
}
