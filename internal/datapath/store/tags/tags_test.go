package tags

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/store/disk"
)

func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

func open(t *testing.T, folder string) *Tags {
	t.Helper()
	d, err := disk.OpenFolder(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	tags, err := Open(d)
	if err != nil {
		t.Fatal(err)
	}
	return tags
}

// put has a tag survive.
func put(tags *Tags, k Key, m Meaning) error {
	return errors.Join(tags.Note(k, m), tags.Write())
}

const place = "0123456789abcdef"

func TestTagsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	at := t.TempDir()
	tags := open(t, at)
	// Repositories that are called as other tags are, and tags as our own files.
	keys := []Key{
		{place, "a", "b"}, {place, "a/b", "c"}, {place, "a/b/c", "c.json"}, {place, "a/b/c", "c"}, {place, "a/b/c", "c.json.new"},
		{"fedcba9876543210", "a", "b"}, {place, strings.Repeat("a/", 127) + "a", strings.Repeat("t", 128)},
	}
	for i, k := range keys {
		if err := errors.Join(put(tags, k, Meaning{Digest: digest(99)}), put(tags, k, Meaning{Digest: digest(i)})); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		for i, k := range keys {
			if m, ok := tags.Get(k); !ok || m.Digest != digest(i) {
				t.Errorf("round %d: %v is %v, %t", round, k, m, ok)
			}
		}
		tags = open(t, at)
	}
	tags.Forget(keys[1])
	if err := tags.Keep(func(d string) bool { return d != digest(3) }); err != nil {
		t.Fatal(err)
	}
	tags = open(t, at)
	for i, k := range keys {
		if _, ok := tags.Get(k); ok != (i != 1 && i != 3) {
			t.Errorf("%v is known: %t", k, ok)
		}
	}
}

// TestOnlyMoreTagsAreRefused: what waits for a disk that hangs is bounded, and what a tag that waits
// means can change.
func TestOnlyMoreTagsAreRefused(t *testing.T) {
	t.Parallel()
	tags := open(t, t.TempDir())
	key := func(n int) Key { return Key{place, "a", fmt.Sprint(n)} }
	for i := range most {
		if err := tags.Note(key(i), Meaning{Digest: digest(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tags.Note(key(0), Meaning{Digest: digest(2)}); err != nil {
		t.Error(err)
	}
	if m, _ := tags.Get(key(0)); m.Digest != digest(2) {
		t.Errorf("it means %s still", m.Digest)
	}
	tags.Forget(key(1))
	if err := tags.Note(key(most), Meaning{Digest: digest(1)}); err == nil || len(tags.changed) > most {
		t.Errorf("%d wait, %v", len(tags.changed), err)
	}
}

func TestStrangeNamesAreNoFiles(t *testing.T) {
	t.Parallel()
	at := t.TempDir()
	tags := open(t, at)
	for _, k := range []Key{
		{"../..", "a", "b"}, {place, "../a", "b"}, {place, "a//b", "c"}, {place, "a", "../b"}, {place, "a", ""}, {place, "", "b"},
		{place, "a/_tags", "b"}, {place, "a", "b/c"}, {place, "a\x00", "b"}, {place, strings.Repeat("a", 256), "b"},
	} {
		if err := tags.Note(k, Meaning{Digest: digest(1)}); err == nil {
			t.Errorf("%+v was written", k)
		}
	}
	if err := tags.Note(Key{place, "a", "b"}, Meaning{Digest: "sha256:no"}); err == nil {
		t.Error("no digest was written")
	}
}

func TestStrangeFilesAreDropped(t *testing.T) {
	t.Parallel()
	at := t.TempDir()
	good := Key{place, "a", "b"}
	if err := put(open(t, at), good, Meaning{Digest: digest(1), MediaType: "x/y"}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(at, filepath.Dir(good.file()))
	for name, content := range map[string]string{
		"b.json.new": "{", "c.json": "", "d.json": `{"digest":"sha256:1"}`, "e.json": strings.Repeat(" ", mostFile+1), "f": `{"digest":"` + digest(1) + `"}`,
		".g.json": `{"digest":"` + digest(1) + `"}`, "h.json": string(make([]byte, 100)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tags := open(t, at)
	if m, ok := tags.Get(good); !ok || m.MediaType != "x/y" || len(tags.known) != 1 {
		t.Errorf("%v", tags.known)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("%v are left: %v", left, err)
	}
}

func FuzzTag(f *testing.F) {
	f.Add([]byte(`{"digest":"`+digest(1)+`","mediaType":"a/b"}`), "tags/"+place+"/a/_tags/b.json")
	f.Add([]byte(`{"digest":1}`), "tags/"+place+"/a/_tags/../../b.json")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		if m, ok := parse(data); ok && len(m.Digest) < 71 {
			t.Errorf("%q is a digest", m.Digest)
		}
		if k, ok := keyOf(name); ok && (k.file() != name || strings.Contains(name, "..") && !strings.Contains(k.Repository+k.Tag, "..")) {
			t.Errorf("%q is %+v, which is %q", name, k, k.file())
		}
	})
}
