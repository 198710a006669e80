package layout_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/layout"
)

// published are layouts as version 0.1 of the module published them, with the
// version that its nodes show. These files are never rewritten: nodes have them
// on their disks, and clusters in their Secrets.
func published() map[string]struct {
	want    layout.Layout
	version string
} {
	return map[string]struct {
		want    layout.Layout
		version string
	}{
		"schema1-transition.yaml": {transition(), "83410b0b6701b5cfa21ba7bbe80542086e6a0ccea184683e41e4c4ea06a566e7"},
		"schema1-unmanaged.yaml":  {unmanaged(), "15f6c812a00f6057f4a324f17d15c353d6dad87a6dbfb30f390d9c015f79b6f9"},
	}
}

// TestWhatAnOlderVersionPublishedIsReadAndStaysTheSame: an agent that was
// upgraded serves what is on its disk, and a controller that was upgraded neither
// publishes it again nor changes the version that users see.
func TestWhatAnOlderVersionPublishedIsReadAndStaysTheSame(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(published())) {
		c := published()[name]
		data, err := os.ReadFile(filepath.Join("testdata", "compat", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := layout.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s is read as %+v, want %+v", name, got, c.want)
		}
		if got.Version() != c.version {
			t.Errorf("%s has version %s, its nodes show %s", name, got.Version(), c.version)
		}
		again, err := layout.Encode(got)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, data) {
			t.Errorf("%s would be published again as\n%s", name, again)
		}
	}
}

// TestWhatANewerVersionAddsIsNotInTheWay: an older agent reads a layout of the
// same schema with keys that it does not know, in whatever place.
func TestWhatANewerVersionAddsIsNotInTheWay(t *testing.T) {
	t.Parallel()
	data, err := layout.Encode(transition())
	if err != nil {
		t.Fatal(err)
	}
	var doc any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	added := addTo(doc, "")
	data, err = yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	got, err := layout.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, transition()) || added < 20 {
		t.Errorf("with %d more keys it is %+v", added, got)
	}
}

// addTo gives every object but the one of hosts, whose keys are names, a key
// more, and returns how many that were.
func addTo(doc any, at string) int {
	n := 0
	switch doc := doc.(type) {
	case map[string]any:
		for key, value := range doc {
			n += addTo(value, key)
		}
		if at != "hosts" {
			doc["addedLater"] = map[string]any{"a": []any{1}}
			n++
		}
	case []any:
		for _, e := range doc {
			n += addTo(e, "")
		}
	}
	return n
}
