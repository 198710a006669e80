package hostsdir_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/durable/durabletest"
	"github.com/d8-registry/registry/internal/node/hostsdir"
)

// TestCrashAtAnyWrite stops Apply at each operation of each change of the
// story. What containerd then reads is whole, and the next Apply ends where an
// undisturbed one does.
func TestCrashAtAnyWrite(t *testing.T) {
	t.Parallel()
	a, b := registryA(t), registryB()
	changedCA := a
	changedCA.CA = certificate(t, "CA-B")
	alone := func(l layout.Layout) layout.Layout { // while its CA is in the files
		l.Fallback = layout.Fallback{}
		return l
	}
	steps := []struct {
		name     string
		from, to hostsdir.Tree
	}{
		{"first", nil, render(t, published(t, a))},
		{"another registry", render(t, published(t, a)), render(t, published(t, b, a))},
		{"another CA", render(t, alone(published(t, a))), render(t, alone(published(t, changedCA)))},
		{"registry gone", render(t, published(t, b, a)), render(t, published(t, b))},
		{"all gone", render(t, published(t, b, a)), nil},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			want := t.TempDir()
			apply(t, open(t, want), step.from)
			apply(t, open(t, want), step.to)
			for _, kill := range durabletest.Kills() {
				for at := 1; ; at++ {
					dir := t.TempDir()
					folder := open(t, dir)
					apply(t, folder, step.from)
					p := durabletest.NewProcess(at, kill)
					_, err := hostsdir.Apply(p.FS(folder), step.to)
					readable(t, dir)
					apply(t, folder, step.to)
					same(t, want, dir)
					if !p.Dead() && err == nil {
						if at < 4 {
							t.Fatalf("only %d operations were counted", at-1)
						}
						break
					}
					if !errors.Is(err, durabletest.ErrKilled) {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// readable fails unless every directory is one that containerd can use: each
// hosts.toml parses and every certificate file that it names is there and
// whole. The ownership file covers every directory.
func readable(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		var owned []string
		if err := json.Unmarshal([]byte(read(t, dir, ownership)), &owned); err != nil || !slices.Contains(owned, e.Name()) {
			t.Errorf("%s is not on the list %q (%v)", e.Name(), owned, err)
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name(), "hosts.toml"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // as if there were no directory
		}
		var doc struct {
			CA   string `toml:"ca"`
			Host map[string]struct {
				CA string `toml:"ca"`
			} `toml:"host"`
		}
		if err := toml.Unmarshal(data, &doc); err != nil || len(doc.Host) == 0 {
			t.Fatalf("%s/hosts.toml: %v\n%s", e.Name(), err, data)
		}
		cas := []string{doc.CA}
		for _, h := range doc.Host {
			cas = append(cas, h.CA)
		}
		for _, ca := range cas {
			if ca != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(read(t, dir, filepath.Join(e.Name(), ca)))) {
				t.Errorf("%s/%s holds no certificate", e.Name(), ca)
			}
		}
	}
}

// TestPowerCutKeepsTheOrder: a hosts.toml whose certificate is not on disk
// fails every pull of its host, so each is on disk before the next step.
func TestPowerCutKeepsTheOrder(t *testing.T) {
	t.Parallel()
	folder := &durabletest.FS{FS: open(t, t.TempDir())}
	with := published(t, registryB())
	without := with
	without.Fallback = layout.Fallback{}
	apply(t, folder, render(t, with))
	apply(t, folder, render(t, without))
	var log []string
	for _, c := range folder.Changes {
		log = append(log, c.String())
	}
	for _, order := range [][]string{
		{"rename " + fixed + "/second-way.crt", "sync " + fixed, "rename " + fixed + "/hosts.toml"},
		{"rename " + fixed + "/hosts.toml", "sync " + fixed, "remove " + fixed + "/second-way.crt", "sync " + fixed},
	} {
		at := -1
		for _, want := range order {
			next := slices.Index(log[at+1:], want)
			if next < 0 {
				t.Fatalf("no %q after operation %d of %q", want, at, log)
			}
			at += 1 + next
		}
		first := slices.Index(log, order[0])
		if i := slices.Index(log[first:], order[1]); i > slices.Index(log[first:], order[2]) {
			t.Errorf("%q came after %q: %q", order[1], order[2], log)
		}
	}
}

// A directory is forgotten when that nothing of ours is left in it is on disk: after a
// power cut a file of ours that came back would be nobody's.
func TestForgottenOnlyWhenItIsOnDisk(t *testing.T) {
	t.Parallel()
	tree := render(t, published(t, registryB()))
	for name, foreign := range map[string]bool{"the directory goes": false, "somebody's file stays": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			folder := &durabletest.FS{FS: open(t, dir)}
			apply(t, folder, tree)
			if foreign {
				if err := os.WriteFile(filepath.Join(dir, fixed, "notes.txt"), []byte("theirs"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			folder.Changes = nil
			apply(t, folder, nil)
			var log []string
			for _, c := range folder.Changes {
				log = append(log, c.String())
			}
			gone, forgotten := "remove "+fixed, slices.Index(log, "remove "+ownership)
			synced := "sync ."
			if foreign {
				gone, synced = "remove "+fixed+"/hosts.toml", "sync "+fixed
			}
			at := slices.Index(log, gone)
			if at < 0 || forgotten < at || !slices.Contains(log[at:forgotten], synced) {
				t.Errorf("no %q between %q and the end of the list: %q", synced, gone, log)
			}
		})
	}
}
