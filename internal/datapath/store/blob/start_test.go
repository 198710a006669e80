package blob_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/d8-registry/registry/internal/datapath/store/blob"
	"github.com/d8-registry/registry/internal/datapath/store/disk"
	"github.com/d8-registry/registry/internal/datapath/store/disk/disktest"
)

// TestOneProcess: a folder is that of one process, until it ends.
func TestOneProcess(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s := open(t, path, "a")
	folder, err := disk.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = folder.Close() }()
	if _, err := blob.Open(t.Context(), folder, blob.Options{Boot: "a"}); !errors.Is(err, disk.ErrInUse) {
		t.Errorf("two at once: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path, "a")
}

// TestStrangeNames: what is no blob and no partial of ours goes from their folders, links and
// pipes are not followed, and nothing is touched elsewhere.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	path, outside := filepath.Join(top, "store"), filepath.Join(top, "outside")
	hex := strings.TrimPrefix(digestOf([]byte("x")), "sha256:")
	if err := errors.Join(os.Mkdir(path, 0o700), os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, hex), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	data := content(100)
	s := open(t, path, "a")
	put(t, s, digestOf(data), data)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(path, name) }
	if err := errors.Join(
		os.Symlink(filepath.Join(outside, hex), at("blobs/sha256/"+hex)),
		os.Symlink("../../../outside", at("blobs/sha512/"+strings.Repeat("0", 128))),
		syscall.Mkfifo(at("blobs/sha256/"+strings.Repeat("1", 64)), 0o600),
		os.MkdirAll(at("blobs/sha256/"+strings.Repeat("2", 64)+"/deep/er"), 0o700),
		os.WriteFile(at("blobs/sha256/"+strings.ToUpper(hex)), []byte("x"), 0o600),
		os.WriteFile(at("blobs/md5"), nil, 0o600),
		os.Symlink(outside, at("partial/sha256-"+hex)),
		os.Symlink(filepath.Join(outside, hex), at("partial/sha256-"+hex+".json")),
		syscall.Mkfifo(at("partial/pipe"), 0o600),
		os.WriteFile(at("partial/sha256-"+strings.Repeat("3", 64)), []byte("x"), 0o600),
		os.WriteFile(at("partial/"+strings.Repeat("n", 250)), nil, 0o600),
		os.MkdirAll(at("trash/9/deep"), 0o700),
		os.WriteFile(at("trash/9/deep/file"), nil, 0o400),
		os.Symlink(outside, at("trash/link")),
		os.WriteFile(at("uses.log"), []byte("of somebody else"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	s = open(t, path, "a")
	if all := s.Blobs(); len(all) != 1 || all[0].Digest != digestOf(data) || len(s.Partials()) != 0 {
		t.Errorf("%v are whole, %v come", all, s.Partials())
	}
	want := map[string]bool{"blobs/sha256/" + strings.TrimPrefix(digestOf(data), "sha256:"): true, "oci-layout": true, "index.json": true, "store.json": true, "lock": true, "uses.log": true}
	err := filepath.WalkDir(path, func(name string, e os.DirEntry, err error) error {
		if name, _ := filepath.Rel(path, name); err == nil && !e.IsDir() {
			if !want[name] {
				t.Errorf("left: %s", name)
			}
			delete(want, name)
		}
		return err
	})
	if err != nil || len(want) > 0 {
		t.Errorf("%v are gone, %v", want, err)
	}
	if got, err := os.ReadFile(filepath.Join(outside, hex)); err != nil || string(got) != "x" {
		t.Errorf("outside: %q, %v", got, err)
	}
}

// TestFormats: a store of a later version is left as it is, and the error names it; one
// whose store.json says nothing has its blobs.
func TestFormats(t *testing.T) {
	t.Parallel()
	data := content(100)
	for text, want := range map[string]string{
		`{"format":2,"more":true}`: "format 2",
		`{"format":1}`:             "",
		`{"format":0}`:             "",
		"":                         "",
		"\x00\x00\x00\x00":         "",
		`[]`:                       "",
	} {
		d := disktest.New()
		s := onDisk(t, d, nil)
		put(t, s, digestOf(data), data)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		p := d.Process(nil)
		if err := disk.Replace(p, "store.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
		d.Put("blobs/sha256/strange", 0o600, nil)
		before := len(p.Steps())
		s, err := blob.Open(t.Context(), p, blob.Options{Boot: "a"})
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) || len(p.Steps()) != before {
				t.Errorf("%s: %v, after %v", text, err, p.Steps()[before:])
			}
			continue
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if got := get(t, s, digestOf(data)); !bytes.Equal(got, data) || string(d.Files()["store.json"]) != `{"format":1}` {
			t.Errorf("%q: %d bytes, %s", text, len(got), d.Files()["store.json"])
		}
	}
	d := disktest.New()
	d.Put("blobs", 0o600, nil)
	if _, err := blob.Open(t.Context(), d.Process(nil), blob.Options{}); err == nil || !strings.Contains(err.Error(), "blobs") {
		t.Errorf("a file where a folder should be: %v", err)
	}
}

// TestKept: a partial is kept for this run of the kernel only, and not when its note or its
// file may be anything.
func TestKept(t *testing.T) {
	t.Parallel()
	data := content(1000)
	digest := digestOf(data)
	name := "partial/" + strings.Replace(digest, ":", "-", 1)
	note := func(text string) func(*disktest.Disk) {
		return func(d *disktest.Disk) {
			if err := disk.Swap(d.Process(nil), name+".json", []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	spans := func(s string) func(*disktest.Disk) {
		return note(fmt.Sprintf(`{"digest":%q,"size":1000,"boot":"a","spans":[%s]}`, digest, s))
	}
	for what, row := range map[string]struct {
		harm func(d *disktest.Disk)
		boot string
		want bool
	}{
		"nothing":         {func(*disktest.Disk) {}, "a", true},
		"another boot":    {func(*disktest.Disk) {}, "b", false},
		"an unknown boot": {func(*disktest.Disk) {}, "", false},
		"no boot at all":  {note(fmt.Sprintf(`{"digest":%q,"size":1000,"spans":[]}`, digest)), "", false},
		"fewer spans":     {spans(`{"From":0,"To":500}`), "a", true},
		"no spans":        {spans(``), "a", true},
		"out of order":    {spans(`{"From":500,"To":600},{"From":0,"To":500}`), "a", false},
		"too far":         {spans(`{"From":0,"To":1001}`), "a", false},
		"not there":       {spans(`{"From":0,"To":700}`), "a", false},
		"a short file":    {func(d *disktest.Disk) { d.Cut(name, 599) }, "a", false},
		"no file":         {func(d *disktest.Disk) { _ = d.Process(nil).Remove(name) }, "a", false},
		"no note":         {func(d *disktest.Disk) { _ = d.Process(nil).Remove(name + ".json") }, "a", false},
		"a note of nulls": {note("\x00\x00"), "a", false},
		"half a note":     {note(`{"digest":"sha256`), "a", false},
		"a large note":    {note(strings.Repeat(" ", 2<<20) + "{}"), "a", false},
		"another's note":  {note(strings.Replace(fmt.Sprintf(`{"digest":%q,"size":1000,"boot":"a"}`, digest), "sha256:", "sha256:0", 1)), "a", false},
		"a damaged note":  {func(d *disktest.Disk) { d.Damage(name + ".json") }, "a", false},
	} {
		d := disktest.New()
		s := onDisk(t, d, nil)
		p := begin(t, s, digest, len(data))
		_, err := p.WriteAt(data[:600], 0)
		if err := errors.Join(err, p.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		row.harm(d)
		s, err = blob.Open(t.Context(), d.Process(nil), blob.Options{Boot: row.boot})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if size, ok := s.Kept(digest); ok != row.want || ok && size != 1000 {
			t.Errorf("%s: kept: %v, of %d bytes", what, ok, size)
		}
		for file := range d.Files() {
			if !row.want && strings.HasPrefix(file, "partial/") {
				t.Errorf("%s: %s is left", what, file)
			}
		}
		if what == "fewer spans" { // somebody else says another size
			p, err := s.Begin(digest, 999)
			if err != nil || p.Covered(0) != 0 {
				t.Errorf("with another size %d bytes are there, %v", p.Covered(0), err)
			}
			if err := errors.Join(p.Discard(), p.Close()); err != nil {
				t.Error(err)
			}
		}
		put(t, s, digest, data)
	}
}

// TestOldNote: a note that could not be removed is not taken for one of a later partial.
func TestOldNote(t *testing.T) {
	t.Parallel()
	data := content(1000)
	digest := digestOf(data)
	d := disktest.New()
	fails := false
	process := d.Process(func(s disktest.Step) disktest.Fault {
		if fails && s.Op == disktest.Remove && strings.HasSuffix(s.Name, ".json") {
			return disktest.Fault{Err: syscall.EIO}
		}
		return disktest.Fault{}
	})
	s, err := blob.Open(t.Context(), process, blob.Options{Boot: "a"})
	if err != nil {
		t.Fatal(err)
	}
	p := begin(t, s, digest, len(data))
	_, err = p.WriteAt(lie(data), 0)
	if err := errors.Join(err, p.Keep()); err != nil {
		t.Fatal(err)
	}
	fails = true
	if err := p.Discard(); !errors.Is(err, syscall.EIO) {
		t.Errorf("discarded: %v", err)
	}
	fails = false
	p = begin(t, s, digest, len(data))
	if _, err := p.WriteAt(data[999:], 999); err != nil {
		t.Fatal(err)
	}
	process.Kill()
	s = onDisk(t, d, nil)
	if _, ok := s.Kept(digest); ok {
		t.Error("it is taken for the note of another one")
	}
	put(t, s, digest, data)
}

// TestOCILayout: the folder is one for others too, with images that they note in its index.
func TestOCILayout(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s := open(t, path, "a")
	img, err := random.Image(2000, 3)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(h v1.Hash, err error, data func() (io.ReadCloser, error)) {
		t.Helper()
		rc, openErr := data()
		if err := errors.Join(err, openErr); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			t.Fatal(err)
		}
		put(t, s, h.String(), b)
	}
	same := func(l v1.Layer) {
		t.Helper()
		want, err := l.Digest()
		rc, openErr := l.Compressed()
		if err := errors.Join(err, openErr); err != nil {
			t.Fatal(err)
		}
		if is, _, err := v1.SHA256(rc); errors.Join(err, rc.Close()) != nil || is != want {
			t.Errorf("%s has the bytes of %s", want, is)
		}
	}
	raw := func(b []byte, err error) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), err }
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		h, err := l.Digest()
		keep(h, err, l.Compressed)
	}
	h, err := img.ConfigName()
	keep(h, err, raw(img.RawConfigFile()))
	digest, err := img.Digest()
	keep(digest, err, raw(img.RawManifest()))

	if mark, err := os.ReadFile(filepath.Join(path, "oci-layout")); err != nil || string(mark) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s, %v", mark, err)
	}
	l, err := layout.FromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := partial.Descriptor(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AppendDescriptor(*desc); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		read, err := l.Image(digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read.ConfigFile(); err != nil {
			t.Error(err)
		}
		layers, err := read.Layers()
		if err != nil || len(layers) != 3 {
			t.Errorf("%d layers, %v", len(layers), err)
		}
		for _, l := range layers {
			same(l)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, "b") // a later process leaves their index as it is
	}
}
