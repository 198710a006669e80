package deploy

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

var server apiserver.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// parseYAML reads any YAML value.
func parseYAML(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}

// moduleConfig is ModuleConfig name with a spec as YAML.
func moduleConfig(t *testing.T, name, spec string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"spec": parseYAML(t, spec)}}
	o.SetGroupVersionKind(deckhousev1alpha1.GroupVersion().WithKind("ModuleConfig"))
	o.SetName(name)
	return o
}

// A write is one way to bring an object to the API server. It writes nothing:
// admission takes a dry run for what it would be.
type write struct {
	name string
	do   func(t *testing.T, c client.Client, o *unstructured.Unstructured) error
}

func create() write {
	return write{"create", func(t *testing.T, c client.Client, o *unstructured.Unstructured) error {
		return c.Create(t.Context(), o, client.DryRunAll)
	}}
}

func update() write {
	return write{"update", func(t *testing.T, c client.Client, o *unstructured.Unstructured) error {
		current := &unstructured.Unstructured{}
		current.SetGroupVersionKind(o.GroupVersionKind())
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), current); err != nil {
			t.Fatal(err)
		}
		o.SetResourceVersion(current.GetResourceVersion())
		return c.Update(t.Context(), o, client.DryRunAll)
	}}
}

func serverSideApply() write {
	return write{"apply", func(t *testing.T, c client.Client, o *unstructured.Unstructured) error {
		return c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(o),
			client.FieldOwner("user"), client.ForceOwnership, client.DryRunAll)
	}}
}

// deniedBy is what stands before a policy's message in an error.
const deniedBy = " denied request: "

// check fails unless err is a refusal with exactly this message, or nil for
// an empty one.
func check(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && err == nil:
		t.Errorf("accepted, want %q", want)
	case want != "":
		if _, got, _ := strings.Cut(err.Error(), deniedBy); got != want {
			t.Errorf("refused with\n  %v\nwant\n  %s", err, want)
		}
	}
}

// store puts an object where it is for real, and takes it away with the test.
func store(t *testing.T, api *apiserver.API, o *unstructured.Unstructured) {
	t.Helper()
	if err := api.Client().Create(t.Context(), o.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context ends before its clean-up.
		ctx := context.WithoutCancel(t.Context())
		// In Direct the object cannot be deleted; elsewhere this may fail.
		unmanaged := client.RawPatch(types.JSONPatchType,
			[]byte(`[{"op":"replace","path":"/spec/settings/registry","value":{"mode":"Unmanaged"}}]`))
		_ = api.Client().Patch(ctx, o.DeepCopy(), unmanaged)
		if err := api.Client().Delete(ctx, o); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
}

// waitFor returns when ready does, or after some seconds; the caller then
// finds out what is wrong.
func waitFor(ctx context.Context, ready func() bool) {
	_ = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, 5*time.Second, true,
		func(context.Context) (bool, error) { return ready(), nil })
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
