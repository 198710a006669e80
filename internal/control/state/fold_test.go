package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
	"github.com/d8-registry/registry/test/harness/cert"
)

// largeDocument is in the middle of a switch between registries with large CAs.
func largeDocument(ca string, ups ...upstream.Upstream) Document {
	doc := someDocument()
	if len(ups) == 0 {
		ups = []upstream.Upstream{doc.Active.Upstream, {Host: "b.io", Path: "d8", Scheme: upstream.HTTPS}}
	}
	for i := range ups {
		if ca != "" {
			ups[i].CA = ca
		}
	}
	doc.Active.Upstream, doc.Target.Upstream = ups[0], ups[len(ups)-1]
	names := []layout.Name{layout.Fixed()}
	for _, u := range ups {
		names = append(names, layout.NameOf(u))
	}
	d := &doc.Desired
	d.Layout.Active, d.Layout.Target, d.Layout.Routes = ups[0], ups[len(ups)-1], layout.Cross(names, ups)
	d.Registry, d.Own, d.Bootstrap = doc.Target, ups[0], ups
	for _, u := range ups {
		d.PullSecrets = append(d.PullSecrets, switchover.Target{Mode: switchover.Direct, Upstream: u})
	}
	return doc
}

// withCAs is a large document of so many registries, each with a CA of its own of about
// so many bytes.
func withCAs(t testing.TB, registries, size int) Document {
	t.Helper()
	var ups []upstream.Upstream
	for i := range registries {
		u := upstream.Upstream{Host: fmt.Sprintf("registry-%02d.example.com", i), Path: "d8", Scheme: upstream.HTTPS,
			Credentials: upstream.Credentials{Username: "robot", Password: strings.Repeat("p", 64)}}
		for len(u.CA) < size {
			_, ca, err := cert.SelfSigned("registry.example.com")
			if err != nil {
				t.Fatal(err)
			}
			u.CA += ca
		}
		ups = append(ups, u)
	}
	return largeDocument("", ups...)
}

// withPasswords is a large document of so many accounts, with a long password each.
func withPasswords(accounts, long int) Document {
	var ups []upstream.Upstream
	for i := range accounts {
		ups = append(ups, upstream.Upstream{Host: fmt.Sprintf("registry-%02d.example.com", i), Path: "d8", Scheme: upstream.HTTPS,
			Credentials: upstream.Credentials{Username: "u", Password: fmt.Sprint(i) + strings.Repeat("p", long)}})
	}
	return largeDocument("", ups...)
}

func encoded(t testing.TB, doc Document) []byte {
	t.Helper()
	data, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// same reports whether two documents say the same, whatever they were read from.
func same(a, b Document) bool {
	left, errA := json.Marshal(a)
	right, errB := json.Marshal(b)
	return errA == nil && errB == nil && string(left) == string(right)
}

// TestALargeStateHasEachCAOnce, and a small one is what older versions read.
func TestALargeStateHasEachCAOnce(t *testing.T) {
	t.Parallel()
	const ca = "-----BEGIN CERTIFICATE-----\n"
	for size, want := range map[int]int{4 << 10: 16, 40 << 10: 1} {
		doc := largeDocument(ca + strings.Repeat("A", size))
		data := encoded(t, doc)
		plain, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("a CA of %d KiB: %d KiB, plain %d KiB", size>>10, len(data)>>10, len(plain)>>10)
		if got := strings.Count(string(data), ca[:27]); got != want {
			t.Errorf("a CA of %d KiB stands %d times, want %d", size>>10, got, want)
		}
		back, err := Decode(data)
		if err != nil || !same(back, doc) {
			t.Errorf("a CA of %d KiB is read as %+v, %v", size>>10, back, err)
		}
	}
}

// TestAStateOfSchema2IsRead: the file is what a large state looks like, and is never
// rewritten.
func TestAStateOfSchema2IsRead(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("testdata", "state-schema2.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := largeDocument("-----BEGIN CERTIFICATE-----\n" + strings.Repeat("A", 128)); !same(doc, want) || doc.Newer() {
		t.Errorf("it is read as %+v", doc)
	}
	// A CA that is not there is no registry without a CA.
	if _, err := Decode(bytes.Replace(data, []byte("\ntexts:"), []byte("\nothers:"), 1)); err == nil {
		t.Error("references to nothing are read")
	}
}

// TestAnOlderControllerDamagesNothing: one that knows schema 1 keeps unknown keys at
// the top, and writes what it made of the rest.
func TestAnOlderControllerDamagesNothing(t *testing.T) {
	t.Parallel()
	doc := largeDocument(strings.Repeat("A", 40<<10))
	data := encoded(t, doc)
	var old Document
	if err := yaml.Unmarshal(data, &old); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, &old.raw); err != nil {
		t.Fatal(err)
	}
	if !old.Newer() || !switchover.Standard().Unreadable(old.State, switchover.Observed{}) {
		t.Fatal("an older controller would act on it")
	}
	old.Conditions = []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, Message: "written by a newer version"}}
	back, err := Decode(encoded(t, old))
	if err != nil || !same(back, doc) {
		t.Errorf("after an older controller it is read as %+v, %v", back, err)
	}
}

// TestUnknownFieldsAreKeptInALargeState, wherever they are.
func TestUnknownFieldsAreKeptInALargeState(t *testing.T) {
	t.Parallel()
	var tree map[string]any
	if err := yaml.Unmarshal(encoded(t, largeDocument("x")), &tree); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("B", 200)
	tree["later"] = map[string]any{"ca": text, "other": text, "nodeRef": "texts", "list": []any{map[string]any{"ca": text}}}
	tree["desired"].(map[string]any)["cache"] = text
	data, err := yaml.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	large := largeDocument(strings.Repeat("A", 40<<10))
	large.raw = doc.raw
	data = encoded(t, large)
	if got := strings.Count(string(data), text); got != 1 {
		t.Errorf("a text of a newer version stands %d times", got)
	}
	back, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.raw["later"], tree["later"]) || back.raw["desired"].(map[string]any)["cache"] != text {
		t.Errorf("kept %v", back.raw["later"])
	}
}

// TestAnyStateRoundTrips: whatever the registries are, what is stored is what is read.
func TestAnyStateRoundTrips(t *testing.T) {
	t.Parallel()
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ0\"'\\:#{}$é ~|>-\n\tRef/texts")), 0, 300, -1)
	rapid.Check(t, func(t *rapid.T) {
		var ups []upstream.Upstream
		for i := range rapid.IntRange(1, 4).Draw(t, "registries") {
			ups = append(ups, upstream.Upstream{Host: fmt.Sprint("r", i), Scheme: upstream.HTTPS,
				Credentials: upstream.Credentials{Username: text.Draw(t, "user"), Password: text.Draw(t, "password")}})
		}
		doc := largeDocument(text.Draw(t, "ca")+strings.Repeat("A", rapid.SampledFrom([]int{0, 200, 60 << 10}).Draw(t, "size")), ups...)
		data, err := doc.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(data)
		if err != nil || !same(back, doc) {
			t.Fatalf("read as %+v, %v; want %+v", back, err, doc)
		}
	})
}

// TestALayoutGoesOutInWhatHoldsIt: who cannot read schema 2 keeps what it has and says
// so; nobody can read what no Secret holds.
func TestALayoutGoesOutInWhatHoldsIt(t *testing.T) {
	t.Parallel()
	for accounts, want := range map[int]string{4: "\nschema: 1\n", 20: "\nschema: 2\n"} {
		data, err := (&View{Reads: layout.Schema}).encodeLayout(withPasswords(accounts, 2400).Desired.Layout)
		if err != nil || !strings.Contains(string(data), want) || len(data) > corev1.MaxSecretSize {
			t.Errorf("%d accounts: %d bytes, %v, not%q", accounts, len(data), err, want)
		}
	}
}
