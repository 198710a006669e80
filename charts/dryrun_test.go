package charts

import (
	"context"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/apiserver"
)

// warnings are what the API server has to say about objects that it takes:
// fields that it does not know or no longer wants, Pods that break a profile.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

// TestServerSideDryRun has the API server check every object that the chart can
// render, hooks included: it takes all of them without a warning.
func TestServerSideDryRun(t *testing.T) {
	c := newCluster(t)
	var w warnings
	config := c.plane.Config()
	config.WarningHandlerWithContext = &w
	strict, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	strict = client.WithFieldValidation(client.WithFieldOwner(strict, "dry-run"), metav1.FieldValidationStrict)
	for _, values := range []string{"minimal", "full"} {
		objects, err := apiserver.ParseManifests([]byte(render(t, "-f", "testdata/"+values+".yaml")))
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) < 20 {
			t.Fatalf("%s: only %d objects", values, len(objects))
		}
		for _, o := range objects {
			c.haveNamespace(t, o.GetNamespace())
			err := strict.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o), client.DryRunAll)
			if err != nil {
				t.Errorf("%s: %s %s is refused by %s: %v", values, o.GetKind(), o.GetName(), c.plane.Version(), err)
			}
			for _, text := range w.take() {
				t.Errorf("%s: %s warns about %s %s: %s", values, c.plane.Version(), o.GetKind(), o.GetName(), text)
			}
		}
		t.Logf("%s: %d objects on %s", values, len(objects), c.plane.Version())
	}
	// Would a warning be seen at all?
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "d8-system", Name: "warned"},
		Spec: corev1.PodSpec{
			Containers:   []corev1.Container{{Name: "main", Image: "registry.example.com/main:1"}},
			NodeSelector: map[string]string{"beta.kubernetes.io/os": "linux"},
		},
	}
	if err := strict.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	if len(w.take()) == 0 {
		t.Error("no warning about a deprecated label: this test sees none")
	}
}

// haveNamespace makes a namespace for real: a dry run makes none.
func (c cluster) haveNamespace(t *testing.T, name string) {
	t.Helper()
	if name == "" {
		return
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := c.Create(t.Context(), ns); client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
}

var _ rest.WarningHandlerWithContext = (*warnings)(nil)
