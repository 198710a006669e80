package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	deckhousev1alpha1 "github.com/d8-registry/registry/api/deckhouse/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// kubectl runs the real kubectl as an administrator and returns all it prints.
func kubectl(t *testing.T, api *apiserver.API, stdin string, args ...string) (string, error) {
	t.Helper()
	binary, err := apiserver.Binary("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = []string{"KUBECONFIG=" + apiserver.Kubeconfig(t, api.Config()), "HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestColumns prints what the documentation prints.
func TestColumns(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	module := &deckhousev1alpha1.Module{
		ObjectMeta: metav1.ObjectMeta{Name: "registry"},
		Properties: deckhousev1alpha1.ModuleProperties{Weight: 38, Source: "Embedded"},
	}
	present(t, api, module)
	module.Status = deckhousev1alpha1.ModuleStatus{
		Phase: deckhousev1alpha1.PhaseReady,
		Conditions: []deckhousev1alpha1.ModuleCondition{
			{Type: deckhousev1alpha1.ConditionEnabledByModuleManager, Status: metav1.ConditionTrue},
			{Type: deckhousev1alpha1.ConditionIsReady, Status: metav1.ConditionTrue},
		},
	}
	if err := api.Client().Status().Update(t.Context(), module); err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile(filepath.Join("testdata", "nodegroupconfiguration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := kubectl(t, api, string(seed), "apply", "-f", "-"); err != nil {
		t.Fatalf("the documentation's NodeGroupConfiguration: %v: %s", err, out)
	}
	for _, tt := range []struct{ args, header, line string }{
		{"module registry -o wide", "NAME WEIGHT STAGE RELEASE CHANNEL SOURCE VERSION PHASE ENABLED DISABLED MESSAGE READY", "registry 38 Embedded Ready True True"},
		{"module registry", "NAME STAGE SOURCE PHASE ENABLED READY", "registry Embedded Ready True True"},
		{"ngc", "NAME WEIGHT NODEGROUPS BUNDLE NODES FAILED", `custom-registry 0 ["*"] ["*"]`},
		{"registrynodes", "", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			out, err := kubectl(t, api, "", append([]string{"get"}, strings.Fields(tt.args)...)...)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			lines := strings.SplitN(out+"\n", "\n", 3)
			for i, want := range []string{tt.header, tt.line} {
				if got := strings.Join(strings.Fields(lines[i]), " "); want != "" && got != want {
					t.Errorf("line %d\n  %s\nwant\n  %s", i, got, want)
				}
			}
		})
	}
}

// TestScriptStatusIsNoDrift: what we write into a user's object is in its
// columns, and is nothing that applying it again would undo.
func TestScriptStatusIsNoDrift(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	seed, err := os.ReadFile(filepath.Join("testdata", "nodegroupconfiguration.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifest := strings.Replace(string(seed), "name: custom-registry", "name: drifting", 1)
	if out, err := kubectl(t, api, manifest, "apply", "-f", "-"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	script := &deckhousev1alpha1.NodeGroupConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "drifting"}}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"status":{"observedGeneration":1,"nodes":"2/3","failed":1,"message":"Failed on a"}}`))
	if err := api.Client().Status().Patch(t.Context(), script, patch); err != nil {
		t.Fatal(err)
	}
	if script.Generation != 1 || script.Spec.Weight != 0 {
		t.Errorf("generation %d, weight %d", script.Generation, script.Spec.Weight)
	}
	if out, err := kubectl(t, api, manifest, "apply", "-f", "-"); err != nil || !strings.Contains(out, "unchanged") {
		t.Errorf("applied again: %v: %s", err, out)
	}
	out, err := kubectl(t, api, "", "get", "nodegroupconfiguration", "drifting", "--no-headers", "-o", "wide")
	if got := strings.Join(strings.Fields(out), " "); err != nil || got != `drifting 0 ["*"] ["*"] 2/3 1 Failed on a` {
		t.Errorf("columns %q %v", got, err)
	}
}

// TestNodeGroupConfiguration is about its schema.
func TestNodeGroupConfiguration(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	for _, tt := range []struct{ name, spec, want string }{
		{"content missing", "{nodeGroups: ['*'], bundles: ['*']}", "spec.content"},
		{"content empty", "{content: '', nodeGroups: ['*'], bundles: ['*']}", "spec.content"},
		{"no group", "{content: x, nodeGroups: [], bundles: ['*']}", "spec.nodeGroups"},
		{"groups missing", "{content: x, bundles: ['*']}", "spec.nodeGroups"},
		{"no bundle", "{content: x, nodeGroups: ['*'], bundles: []}", "spec.bundles"},
		{"weight is text", "{content: x, nodeGroups: ['*'], bundles: ['*'], weight: many}", "spec.weight"},
		{"good", "{content: x, nodeGroups: ['*'], bundles: ['*']}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := moduleConfig(t, "script.sh", tt.spec)
			o.SetKind("NodeGroupConfiguration")
			err := api.Client().Create(t.Context(), o, client.DryRunAll)
			if (tt.want == "" && err != nil) || (tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want))) {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
			if weight, _, _ := unstructured.NestedInt64(o.Object, "spec", "weight"); tt.want == "" && weight != 100 {
				t.Errorf("weight %v, want 100 by default", weight)
			}
		})
	}
}
