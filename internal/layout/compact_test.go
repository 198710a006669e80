package layout_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// withCA is the middle of a switch between two accounts of a registry with a CA of its
// own.
func withCA(t testing.TB) layout.Layout {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join("testdata", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	a := registryA()
	a.CA = string(ca)
	other := a
	other.Credentials = upstream.Credentials{Username: "robot", Password: password}
	l := transition()
	l.Active, l.Target = a, other
	l.Routes = layout.Cross([]layout.Name{layout.Fixed(), layout.NameOf(a)}, []upstream.Upstream{a, other, registryB()})
	return l
}

func encodeFor(t testing.TB, l layout.Layout, reads int) []byte {
	t.Helper()
	data, err := layout.EncodeFor(l, reads)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestASecretIsWrittenOnce: for readers of schema 2 each CA and each password stands
// once. The layout is the same in both: its content, and the version that nodes show.
func TestASecretIsWrittenOnce(t *testing.T) {
	t.Parallel()
	l := withCA(t)
	plain, compact := encodeFor(t, l, layout.Schema), encodeFor(t, l, layout.Newest)
	for what, text := range map[string]string{"CA": "BEGIN CERTIFICATE", "password": l.Target.Credentials.Auth()} {
		if once, often := strings.Count(string(compact), text), strings.Count(string(plain), text); once != 1 || often < 3 {
			t.Errorf("the %s stands %d times in schema 2, %d times in schema 1", what, once, often)
		}
	}
	for name, data := range map[string][]byte{"schema1-ca.yaml": plain, "schema2-ca.yaml": compact} {
		golden := filepath.Join("testdata", "compat", name) // never rewritten once it is released
		if *update {
			if err := os.WriteFile(golden, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, want) {
			t.Errorf("%s is\n%s", name, data)
		}
		back, err := layout.Decode(want)
		if err != nil || !reflect.DeepEqual(back, l) || !back.SameContent(l) || back.Version() != l.Version() {
			t.Errorf("%s is read as %+v, %v", name, back, err)
		}
	}
}

// TestAReferenceToNothing is refused: a registry without its CA or without its password
// would be another one. The error names neither.
func TestAReferenceToNothing(t *testing.T) {
	t.Parallel()
	compact := string(encodeFor(t, withCA(t), layout.Newest))
	for table, want := range map[string]string{"\nauths:\n": "credentials that are not there", "\ncas:\n": "a CA that is not there"} {
		l, err := layout.Decode([]byte(strings.Replace(compact, table, "\nothers:\n", 1)))
		if !errors.Is(err, layout.ErrInvalid) || !strings.HasSuffix(err.Error(), want) || !l.IsZero() {
			t.Errorf("without%swe read %v, %v", table, l, err)
		}
	}
	// In schema 1 the same keys mean nothing.
	data, err := layout.Encode(transition())
	if err != nil {
		t.Fatal(err)
	}
	l, err := layout.Decode([]byte(strings.Replace(string(data), "- auth:", "- authRef: x\n      auth:", 1)))
	if err != nil || !l.SameContent(transition()) {
		t.Errorf("%v, %v", l, err)
	}
}

// TestTheDocumentedFormStays: where no CA repeats, or somebody reads schema 1 only, the
// layout is written as it always was.
func TestTheDocumentedFormStays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		layout layout.Layout
		reads  int
	}{
		"an older reader":  {withCA(t), layout.Schema},
		"nobody has said":  {withCA(t), 0},
		"no CA":            {transition(), layout.Newest},
		"no CA, Unmanaged": {unmanaged(), layout.Newest},
	} {
		want, err := layout.Encode(c.layout)
		if err != nil {
			t.Fatal(err)
		}
		if got := encodeFor(t, c.layout, c.reads); !bytes.Equal(got, want) || !bytes.Contains(got, []byte("\nschema: 1\n")) {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

// TestLargeLayouts prints how large layouts are, as docs/operations.md says: 20 names
// by 20 registries fit into a Secret, with a CA of 4 KiB for all of them or for each.
func TestLargeLayouts(t *testing.T) {
	t.Parallel()
	const secret = 1 << 20
	for name, c := range map[string]struct {
		registries, names, ca int // ca in KiB
		own                   bool
		fits                  bool // in schema 1
	}{
		"3 registries, 4 names, no CA":                 {3, 4, 0, false, true},
		"3 registries, 4 names, 4 KiB each":            {3, 4, 4, true, true},
		"3 registries, 4 names, 63 KiB each":           {3, 4, 63, true, true},
		"5 accounts of 3 registries, 4 names, 63 KiB":  {5, 4, 63, false, false},
		"20 registries, 20 names, 4 KiB for all":       {20, 20, 4, false, false},
		"20 registries, 20 names, 4 KiB each, its own": {20, 20, 4, true, false},
	} {
		ca := bundle(t, c.ca<<10)
		var ups []upstream.Upstream
		var names []layout.Name
		for i := range c.registries {
			u := upstream.Upstream{Host: fmt.Sprintf("registry-%02d.example.com", i), Path: "team/deckhouse", Scheme: upstream.HTTPS, CA: ca,
				Credentials: upstream.Credentials{Username: fmt.Sprintf("robot-%02d", i), Password: strings.Repeat("p", 64)}}
			if c.own {
				u.CA = bundle(t, c.ca<<10)
			}
			ups = append(ups, u)
		}
		for i := range c.names {
			names = append(names, layout.Name{Host: fmt.Sprintf("registry-%02d.example.com", i), Path: "team/deckhouse"})
		}
		l := layout.Layout{Schema: layout.Schema, Generation: 1, Mode: "Direct", Active: ups[0], Target: ups[1], Routes: layout.Cross(names, ups)}
		plain, compact := len(encodeFor(t, l, layout.Schema)), len(encodeFor(t, l, layout.Newest))
		t.Logf("%s: %d KiB in schema 1, %d KiB in schema 2", name, plain>>10, compact>>10)
		if compact > secret/2 || (plain < secret) != c.fits {
			t.Errorf("%s: %d bytes in schema 1, %d in schema 2", name, plain, compact)
		}
	}
}

// bundle is a CA of at most so many bytes, another one each time.
func bundle(t testing.TB, size int) string {
	t.Helper()
	var out strings.Builder
	for {
		_, ca, err := cert.SelfSigned("registry.example.com")
		if err != nil {
			t.Fatal(err)
		}
		if out.Len()+len(ca) > size {
			return out.String()
		}
		out.WriteString(ca)
	}
}
