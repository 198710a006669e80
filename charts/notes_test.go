package charts

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestNoValueIsNull: null takes a value away from Helm, so that a switch which is on
// by default would be off. What is written as "platformSelector:" is null.
func TestNoValueIsNull(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("registry/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values map[string]any
	if err := yaml.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	var nulls, missing []string
	take := func(path, name string) { nulls, missing = append(nulls, path+"=null"), append(missing, "'"+name+"'") }
	for name, value := range values {
		section, ok := value.(map[string]any)
		if !ok {
			take(name, name)
		}
		for key := range section {
			take(name+"."+key, key)
		}
	}
	out, err := helm(t, "template", "registry", "registry", "-f", "testdata/minimal.yaml", "--set", strings.Join(nulls, ","))
	for _, name := range missing {
		if err == nil || !strings.Contains(out, name) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if len(missing) < 25 {
		t.Errorf("only %d values were tried", len(missing))
	}
}

// TestNotes: what Helm says after an installation.
func TestNotes(t *testing.T) {
	t.Parallel()
	const clear, whole = "with registry.scheme HTTP the password travels in clear text", "registry.imagesRepo has no path"
	for set, want := range map[string]struct{ say, not []string }{
		"registry.imagesRepo=a.example/b": {[]string{"The platform is namespace d8-system, namespaces with label heritage=deckhouse. A switch"}, []string{clear, whole}},
		"registry.imagesRepo=a.example,platformSelector=,platformNamespaces={x,y}": {
			[]string{"The platform is namespace d8-system, namespaces x, y. A switch", whole}, []string{clear},
		},
		"registry.imagesRepo=a.example/b,registry.scheme=HTTP,registry.username=u,registry.password=hidden": {[]string{clear}, []string{whole}},
	} {
		out := mustHelm(t, "install", "registry", "registry", "-n", "d8-system", "--dry-run=client", "--set", set)
		_, notes, _ := strings.Cut(out, "\nNOTES:\n")
		for _, part := range want.say {
			if !strings.Contains(notes, part) {
				t.Errorf("%s: %q is missing in\n%s", set, part, notes)
			}
		}
		for _, part := range append(want.not, "hidden") {
			if strings.Contains(notes, part) {
				t.Errorf("%s: %q is in\n%s", set, part, notes)
			}
		}
	}
}
