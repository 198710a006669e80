package hostsdir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/durable"
	"github.com/d8-registry/registry/internal/node/hostsdir"
	"github.com/d8-registry/registry/internal/upstream"
)

const (
	fixed     = "registry.d8-system.svc:5001"
	ownership = ".registry-agent-owned.json"
)

func registryA(t testing.TB) upstream.Upstream {
	return upstream.Upstream{
		Host: "a.example.com", Path: "team", Scheme: upstream.HTTPS, CA: certificate(t, "CA-A"),
		Credentials: upstream.Credentials{Username: "u", Password: "first"},
	}
}

func registryB() upstream.Upstream {
	return upstream.Upstream{Host: "b.example.com:8443", Path: "mirror", Scheme: upstream.HTTPS}
}

// published is a layout in which every upstream serves every name.
func published(t testing.TB, upstreams ...upstream.Upstream) layout.Layout {
	l := layout.Layout{
		Schema: layout.Schema, Generation: 1, Mode: "Direct", Active: upstreams[0], Target: upstreams[0],
		Fallback: layout.Fallback{Host: "10.96.0.17:5001", CA: certificate(t, "CA-B")},
		Routes:   []layout.Route{{Name: layout.Fixed(), Upstreams: upstreams}},
	}
	for _, u := range upstreams {
		l.Routes = append(l.Routes, layout.Route{Name: layout.NameOf(u), Upstreams: upstreams})
	}
	return l
}

func render(t testing.TB, l layout.Layout) hostsdir.Tree {
	t.Helper()
	tree, err := hostsdir.Render(l, options(t))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func open(t testing.TB, dir string) *durable.Dir {
	t.Helper()
	f, err := hostsdir.MakeDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func apply(t testing.TB, f durable.FS, tree hostsdir.Tree) hostsdir.Result {
	t.Helper()
	res, err := hostsdir.Apply(f, tree)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestApplyWritesOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "certs.d")
	folder := open(t, dir)
	a := registryA(t)

	res := apply(t, folder, render(t, published(t, a)))
	want := []string{
		ownership,
		"a.example.com/ca.crt", "a.example.com/second-way.crt", "a.example.com/registry.crt", "a.example.com/hosts.toml",
		fixed + "/ca.crt", fixed + "/second-way.crt", fixed + "/hosts.toml",
	}
	if !slices.Equal(res.Written, want) || len(res.Removed)+len(res.Conflicts) != 0 {
		t.Errorf("first: %+v, want %q written", res, want)
	}
	for _, name := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info, err)
		}
	}

	a.Credentials.Password = "second"
	if res := apply(t, folder, render(t, published(t, a))); res.Changed() {
		t.Errorf("other credentials: %+v, want nothing done", res)
	}

	res = apply(t, folder, render(t, published(t, registryB(), a)))
	want = []string{ownership, "b.example.com:8443/ca.crt", "b.example.com:8443/hosts.toml"}
	if !slices.Equal(res.Written, want) || res.Removed != nil {
		t.Errorf("another registry: %+v, want %q written", res, want)
	}

	res = apply(t, folder, render(t, published(t, registryB())))
	if !slices.Equal(res.Written, []string{ownership}) || !slices.Equal(res.Removed, []string{"a.example.com"}) {
		t.Errorf("registry gone: %+v", res)
	}

	res = apply(t, folder, nil)
	if !slices.Equal(res.Removed, []string{"b.example.com:8443", fixed}) {
		t.Errorf("all gone: %+v", res)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestCheckWritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := open(t, dir)
	tree := render(t, published(t, registryA(t)))
	res, err := hostsdir.Check(folder, tree)
	if err != nil || !res.Changed() {
		t.Fatalf("%+v, %v", res, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Fatalf("written: %v", left)
	}
	apply(t, folder, tree)
	if res, err := hostsdir.Check(folder, tree); err != nil || res.Changed() {
		t.Errorf("after Apply: %+v, %v", res, err)
	}
}

func TestForeignDirectoriesStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const theirs = "[host.\"https://mirror.example.com\"]\n"
	put(t, dir, "a.example.com/hosts.toml", theirs)
	put(t, dir, "other.example.com/ca.crt", "theirs")
	put(t, dir, "b.example.com_8443_/hosts.toml", theirs)
	put(t, dir, fixed+"/hosts.toml", theirs)
	put(t, dir, fixed+"/notes", "theirs")

	folder := open(t, dir)
	res := apply(t, folder, render(t, published(t, registryA(t), registryB())))
	var got []string
	for _, c := range res.Conflicts {
		got = append(got, c.Host+" <- "+c.Directory)
	}
	want := []string{"a.example.com <- a.example.com", "b.example.com:8443 <- b.example.com_8443_"}
	if !slices.Equal(got, want) {
		t.Errorf("conflicts %q, want %q", got, want)
	}
	if text := read(t, dir, fixed+"/hosts.toml"); !strings.Contains(text, "https://127.0.0.1:5001") {
		t.Errorf("the fixed address is not ours:\n%s", text)
	}

	apply(t, folder, nil)
	for name, text := range map[string]string{
		"a.example.com/hosts.toml": theirs, "other.example.com/ca.crt": "theirs",
		"b.example.com_8443_/hosts.toml": theirs, fixed + "/notes": "theirs",
	} {
		if got := read(t, dir, name); got != text {
			t.Errorf("%s became %q", name, got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, fixed, "hosts.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("our hosts.toml stayed: %v", err)
	}
}

// TestReplacedDirectoriesAreTheirs: a list, ours or that of whoever used this
// folder before, is no leave to delete what carries no marker of ours.
func TestReplacedDirectoriesAreTheirs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder := open(t, dir)
	tree := render(t, published(t, registryA(t)))
	apply(t, folder, tree)
	const theirs = "[host.\"https://mirror.example.com\"]\n"
	put(t, dir, "a.example.com/hosts.toml", theirs)
	put(t, dir, "a.example.com/ca.crt", "theirs")
	put(t, dir, "deckhouse_hosts_state.json", `["legacy.example.com"]`)
	put(t, dir, "legacy.example.com/hosts.toml", theirs)
	put(t, dir, "legacy.example.com/ca.crt", "theirs")
	// Theirs, although it is on our list: a link as hosts.toml.
	put(t, dir, ownership, `["a.example.com", "linked.example.com", "`+fixed+`"]`)
	put(t, dir, "linked.example.com/ca.crt", "theirs")
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "linked.example.com", "hosts.toml")); err != nil {
		t.Fatal(err)
	}

	res := apply(t, folder, tree)
	if len(res.Conflicts) != 1 || res.Conflicts[0].Host != "a.example.com" {
		t.Errorf("conflicts %+v", res.Conflicts)
	}
	apply(t, folder, nil)
	for name, text := range map[string]string{
		"a.example.com/hosts.toml": theirs, "a.example.com/ca.crt": "theirs",
		"legacy.example.com/hosts.toml": theirs, "legacy.example.com/ca.crt": "theirs",
		"linked.example.com/ca.crt": "theirs", "deckhouse_hosts_state.json": `["legacy.example.com"]`,
	} {
		if got := read(t, dir, name); got != text {
			t.Errorf("%s became %q", name, got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, fixed)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the fixed address stayed: %v", err)
	}
}

// TestLostListLeavesNoOrphans: the names may have left the layout meanwhile.
func TestLostListLeavesNoOrphans(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, dir string){
		"lost":   func(t *testing.T, dir string) { remove(t, dir, ownership) },
		"broken": func(t *testing.T, dir string) { put(t, dir, ownership, "{") },
	} {
		dir := t.TempDir()
		folder := open(t, dir)
		apply(t, folder, render(t, published(t, registryA(t), registryB())))
		lose(t, dir)
		res := apply(t, folder, render(t, published(t, registryB())))
		if !slices.Equal(res.Removed, []string{"a.example.com"}) {
			t.Errorf("%s: removed %q", name, res.Removed)
		}
		if _, err := os.Stat(filepath.Join(dir, "a.example.com")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestShadowOfTheFixedAddressIsReported(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "registry.d8-system.svc_5001_/hosts.toml", "x")
	res := apply(t, open(t, dir), render(t, published(t, registryA(t))))
	if len(res.Conflicts) != 1 || res.Conflicts[0].Host != fixed {
		t.Errorf("conflicts %+v", res.Conflicts)
	}
}

// containerd prefers the other spelling, which is somebody's: for a name that is theirs
// too we write nothing beside it. The fixed address is nobody else's.
func TestAShadowedNameIsLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "b.example.com_8443_/hosts.toml", "x")
	put(t, dir, "registry.d8-system.svc_5001_/hosts.toml", "x")
	res := apply(t, open(t, dir), render(t, published(t, registryB())))
	if len(res.Conflicts) != 2 {
		t.Errorf("conflicts %+v", res.Conflicts)
	}
	for name, there := range map[string]bool{"b.example.com:8443": false, fixed: true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "a.example.com")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, fixed)); err != nil {
		t.Fatal(err)
	}
	put(t, dir, ownership, `["a.example.com", "..", "../..", "x/y", "_default"]`)
	put(t, dir, "_default/hosts.toml", "theirs")
	put(t, outside, "hosts.toml", "theirs")

	folder := open(t, dir)
	res := apply(t, folder, render(t, published(t, registryA(t))))
	if len(res.Conflicts) != 2 {
		t.Errorf("conflicts %+v, want both links", res.Conflicts)
	}
	apply(t, folder, nil)
	if read(t, outside, "hosts.toml") != "theirs" || read(t, dir, "_default/hosts.toml") != "theirs" {
		t.Error("something outside was touched")
	}
}

func TestHandEditsAreHealed(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(t *testing.T, dir string){
		"content":        func(t *testing.T, dir string) { put(t, dir, fixed+"/hosts.toml", "x") },
		"file removed":   func(t *testing.T, dir string) { remove(t, dir, fixed+"/second-way.crt") },
		"mode":           func(t *testing.T, dir string) { chmod(t, dir, fixed+"/hosts.toml") },
		"directory gone": func(t *testing.T, dir string) { remove(t, dir, fixed) },
		"stale CA":       func(t *testing.T, dir string) { put(t, dir, fixed+"/registry.crt", "x") },
		"list lost":      func(t *testing.T, dir string) { remove(t, dir, ownership) },
		"list broken":    func(t *testing.T, dir string) { put(t, dir, ownership, "{") },
		"leftover":       func(t *testing.T, dir string) { put(t, dir, fixed+"/hosts.toml.registry-agent", "x") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, clean := t.TempDir(), t.TempDir()
			tree := render(t, published(t, registryA(t), registryB()))
			apply(t, open(t, dir), tree)
			apply(t, open(t, clean), tree)
			edit(t, dir)
			apply(t, open(t, dir), tree)
			if name != "leftover" { // goes with the next write of that file, or with the directory
				same(t, clean, dir)
			}
			apply(t, open(t, dir), nil)
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("left after removal: %v", left)
			}
		})
	}
}

// same fails unless both folders hold the same files.
func same(t *testing.T, want, got string) {
	t.Helper()
	list := func(dir string) map[string]string {
		out := map[string]string{}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(dir, path)
			if err == nil && !d.IsDir() {
				out[rel] = read(t, dir, rel)
			} else if err == nil {
				out[rel] = "directory"
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	w, g := list(want), list(got)
	for name := range w {
		if w[name] != g[name] {
			t.Errorf("%s: %q, want %q", name, g[name], w[name])
		}
	}
	for name := range g {
		if _, ok := w[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}

func put(t testing.TB, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func remove(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func chmod(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil {
		t.Fatal(err)
	}
}
