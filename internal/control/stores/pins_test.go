package stores

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/store/images"
	"github.com/d8-registry/registry/internal/layout"
)

// TestPins: what somebody wrote into a Pod does not cost the others their place.
func TestPins(t *testing.T) {
	t.Parallel()
	digest, long := "sha256:"+strings.Repeat("0a", 32), "sha512:"+strings.Repeat("0a", 64)
	got := Pins([]string{":v1", "@" + digest, ":v1"}, []string{
		"b/c_d__e-f.g:1", "a@" + long, "a:tag@" + digest, "a:other@" + digest, "plain", ":v1",
		"", "/a:1", "a/:1", "A:1", "a:", "a:.b", "a b:1", "a\n:1", "a@sha256:00", "a@" + digest + "x", "$(x):1", "\x1b[31m:1", strings.Repeat("a", 239) + ":1", "a:" + strings.Repeat("t", 129),
	})
	want := []string{":v1", "@" + digest, ":latest", "a@" + digest, "a@" + long, "b/c_d__e-f.g:1", "plain:latest"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// TestPinsAreRead: by the program that they are for, whatever is in them.
func TestPinsAreRead(t *testing.T) {
	t.Parallel()
	fixed := layout.Fixed()
	for _, image := range []string{strings.Repeat("a", 238) + ":1", "a/b:" + strings.Repeat("t", 128), "x--y/z", "a@sha512:" + strings.Repeat("f", 128)} {
		all, err := images.Parse(strings.Join(Pins([]string{image}), "\n"), fixed.Host, fixed.Path)
		if err != nil || len(all) != 1 {
			t.Errorf("%.40q: %v, %v", image, all, err)
		}
	}
	var many []string
	for i := range mostPins + 5 {
		many = append(many, fmt.Sprintf("image:%d", i))
	}
	pins := Pins([]string{"z:1"}, many)
	all, err := images.Parse(strings.Join(pins, "\n"), fixed.Host, fixed.Path)
	if err != nil || len(all) != mostPins || pins[0] != "z:1" {
		t.Errorf("%d, %v", len(all), err)
	}
	for i := range many {
		many[i] = strings.Repeat("a", 200) + many[i]
	}
	if size := len(strings.Join(Pins(many), "\n")); size > mostPinBytes || size < mostPinBytes-300 {
		t.Errorf("%d bytes", size)
	}
}

// TestThePinsLeaveRoom: a Secret that is too large is refused, and no store would hear of a
// layout any more.
func TestThePinsLeaveRoom(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.told("a:1\n")
	f.wish.Pins = []string{"a:1", "b:22", "c:333"}
	for size, want := range map[int]string{0: "a:1\nb:22\nc:333\n", 15: "a:1\nb:22\nc:333\n", 14: "a:1\nb:22\n", 9: "a:1\nb:22\n", 8: "a:1\n", 3: ""} {
		if f.wish.Layout = nil; size > 0 {
			data, err := f.wish.content(f.there, nil)
			if err != nil {
				t.Fatal(err)
			}
			rest := corev1.MaxSecretSize - roomForRest - size
			for key, value := range data {
				if key != v1alpha1.KeyStorePins {
					rest -= len(value)
				}
			}
			f.wish.Layout = make([]byte, rest)
		}
		data, err := f.wish.content(f.there, nil)
		if got := string(data[v1alpha1.KeyStorePins]); got != want || err != nil {
			t.Errorf("with %d bytes left: %q, want %q, %v", size, got, want, err)
		}
	}
}

// FuzzPins: nothing that is in the list is refused by a store.
func FuzzPins(f *testing.F) {
	f.Add("a/b:1\n:v1")
	f.Fuzz(func(t *testing.T, text string) {
		pins, fixed := Pins(strings.Split(text, "\n")), layout.Fixed()
		if _, err := images.Parse(strings.Join(pins, "\n"), fixed.Host, fixed.Path); err != nil {
			t.Errorf("%q: %v", pins, err)
		}
	})
}
