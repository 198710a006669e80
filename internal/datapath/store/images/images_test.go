package images

import (
	"fmt"
	"strings"
	"testing"

	"github.com/d8-registry/registry/internal/datapath/oci"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/layout"
)

// TestParse: a line an image, below the path of the fixed address.
func TestParse(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("1", 64)
	for line, want := range map[string]string{
		"@" + digest: "system/deckhouse " + digest, "module/name@" + digest: "system/deckhouse/module/name " + digest,
		"name:v1": "system/deckhouse/name v1", ":v1": "system/deckhouse v1", "name:v1@" + digest: "system/deckhouse/name " + digest,
		"name": "", "name:": "", "name@v1": "", "@": "", digest: "", "../x:v1": "", "Name:v1": "", "a:b:c": "", "name@sha256:1": "",
		"name:" + strings.Repeat("x", 129): "",
	} {
		all, err := read("\n" + line + "\n" + line)
		got := ""
		if err == nil && len(all) == 1 {
			got = all[0].Repository + " " + all[0].Reference
		}
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", line, got, err)
		}
	}
	var most strings.Builder
	for i := range mostImages {
		fmt.Fprintf(&most, "a:%d\n", i)
	}
	if all, err := read(most.String() + "a:1\n"); err != nil || len(all) != mostImages {
		t.Errorf("%d images, %v", len(all), err)
	}
	if _, err := read(most.String() + "a:b\n"); err == nil {
		t.Error("one too many")
	}
}

// read is Parse as a store has it.
func read(file string) ([]oci.Pull, error) {
	fixed := layout.Fixed()
	return Parse(file, fixed.Host, fixed.Path)
}

// FuzzParse: a file is understood as a whole or not at all, and what is said of it can be shown.
func FuzzParse(f *testing.F) {
	digest := "sha256:" + strings.Repeat("1", 64)
	for _, file := range []string{"", "\n\n", "@" + digest, "a/b:v1\r\n\tc@" + digest, ":v1", "a:\x1b[2J@" + digest, "a?ns=b:v1", "a#b:v1", "a/manifests/b:v1", "a%2e:v1", digest} {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file string) {
		all, err := read(file)
		if err != nil && (all != nil || foreign.Line(err.Error(), foreign.Sentence) != err.Error()) {
			t.Errorf("%d, %q", len(all), err)
		}
		if len(all) > mostImages || len(all) > strings.Count(file, "\n")+1 {
			t.Errorf("%d images", len(all))
		}
		for _, i := range all {
			fixed := layout.Fixed()
			again, err := parse(strings.TrimPrefix(strings.TrimPrefix(i.Repository, fixed.Path), "/")+map[bool]string{true: "@", false: ":"}[i.ByDigest()]+i.Reference, fixed.Host, fixed.Path)
			if err != nil || again != i || i.Host != fixed.Host || i.Kind != oci.KindManifests || !fixed.Holds(i.Host, i.Repository) {
				t.Errorf("%+v, %+v, %v", i, again, err)
			}
		}
	})
}

// FuzzNamesOf: whatever a manifest is, what it names is digests, and not too many.
func FuzzNamesOf(f *testing.F) {
	for _, manifest := range []string{
		"", "null", "[]", `{"layers":null}`, `{"config":{"digest":"` + numbered(1) + `"},"layers":` + entries(2, 2) + `}`,
		`{"manifests":[{"digest":"` + numbered(1) + `","platform":{"os":"linux","architecture":"amd64"}},{"digest":"x"}]}`,
		`{"layers":` + entries(2, 2) + `,"Layers":[{"digest":"../x"}]}`, `{"manifests":` + entries(1, 1) + `,"layers":` + entries(2, 2) + `}`,
	} {
		f.Add([]byte(manifest))
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		n := namesOf(manifest)
		if n.size() > mostNames+2 || n.strange && n.size() > 1 {
			t.Errorf("%d names", n.size())
		}
		for _, c := range n.manifests {
			n.blobs = append(n.blobs, c.digest)
		}
		for _, digest := range n.blobs {
			if !oci.IsDigest(digest) {
				t.Errorf("%q", digest)
			}
		}
	})
}
