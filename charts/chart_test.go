package charts

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/parts"
)

var update = flag.Bool("update", false, "write the golden files anew")

// helm runs Helm with folders of its own, so that nothing of the user's counts.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	parts.Need(t)
	binary, err := apiserver.Binary("helm")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return out.String() + failed.String(), err
	}
	return out.String(), nil
}

func mustHelm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t, args...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func render(t *testing.T, args ...string) string {
	t.Helper()
	return mustHelm(t, append([]string{"template", "registry", "registry", "-n", "d8-system", "--kube-version", "1.30.0"}, args...)...)
}

func TestLint(t *testing.T) {
	t.Parallel()
	for _, values := range []string{"minimal", "full"} {
		mustHelm(t, "lint", "--strict", "registry", "-f", "testdata/"+values+".yaml")
	}
}

// TestGolden shows what values do to the templates that are the chart's own.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, values := range []string{"minimal", "full"} {
		args := []string{"-f", "testdata/" + values + ".yaml"}
		for _, template := range []string{"namespace", "installation", "controller", "guards", "uninstall"} {
			args = append(args, "-s", "templates/"+template+".yaml")
		}
		got := render(t, args...)
		path := filepath.Join("testdata", values+".golden.yaml")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is rendered as\n%s\nwant %s (go test -update, and read the diff)", values, got, path)
		}
	}
}

// TestTemplateKeepsASelectorWhole: a selector with what begins a comment in YAML would
// otherwise be cut off without a word, and select more.
func TestTemplateKeepsASelectorWhole(t *testing.T) {
	t.Parallel()
	out := render(t, "-f", "testdata/minimal.yaml", "-s", "templates/controller.yaml", "--set", `platformSelector=a=b # "no comment"`)
	objects, err := apiserver.ParseManifests([]byte(out))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	containers, _, _ := unstructured.NestedSlice(objects[0].Object, "spec", "template", "spec", "containers")
	args, _, _ := unstructured.NestedStringSlice(containers[0].(map[string]any), "args")
	if !slices.Contains(args, `--platform-selector=a=b # "no comment"`) {
		t.Errorf("the arguments are %q", args)
	}
}

// TestSchema tries values that would make a broken installation.
func TestSchema(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"registry.imagesRepo=", "registry.imagesRepo=https://registry.example.test/x", "registry.imagesRepo=registry.example.test/",
		"registry.scheme=https", "registry.imagesRepo=[fd00::1]/x", "registry.username=a:b", "registry.ca=no certificate",
		"registry.scheme=HTTP,registry.ca=-----BEGIN CERTIFICATE-----", "registry.mode=Direct",
		"image=registry", "image=:", "image=/registry:v1", "agent.port=80", "controller=null", "controller.replicas=0", "agent.port=70000", "agent.upgradeAtOnce=-1", "platformWorkloads=yes", "taints=true",
		"store.port=80", "store.port=5002", "store.path=/data", "store.quota=5", "store.quota=-1Gi", "store.floor=5GB", "store.folder=/opt/x",
		"scripts=on", "restartsAtOnce=0", "uninstall.deadlineSeconds=5", "uninstall.timeout=5m",
		"credentialProviders.providers[0].name=ecr", "credentialProviders.providers=ecr", "credentialProviders.volume=/etc/eks",
	} {
		out, err := helm(t, "template", "registry", "registry", "-f", "testdata/minimal.yaml", "--set", bad)
		// The message names the value, or what must go with it.
		path, _, _ := strings.Cut(bad, "=")
		section, _, _ := strings.Cut(path, ".")
		named := strings.Contains(out, path[strings.LastIndex(path, ".")+1:]) || strings.Contains(out, "'/"+section+"/")
		if err == nil || !strings.Contains(out, "values don't meet the specifications of the schema") || !named {
			t.Errorf("%s: %v\n%s", bad, err, out)
		}
	}
}

// TestSchemaSaysWhatIsRight tries mistakes that people make, for which a regular
// expression is no answer.
func TestSchemaSaysWhatIsRight(t *testing.T) {
	t.Parallel()
	for bad, want := range map[string]string{
		"registry.imagesRepo=https://registry.example.test/x":                                        "'/registry/imagesRepo': value must be 'a host with a dot or a port",
		"registry.imagesRepo=deckhouse/ee":                                                           "'/registry/imagesRepo': value must be 'a host with a dot or a port",
		"image=registry.example.test/deckhouse/ee/registry:v1":                                       "'/image': value must be 'what follows registry.imagesRepo",
		"registry.ca=-----BEGIN CERTIFICATE-----cut":                                                 "'/registry/ca': value must be 'PEM",
		"registry.scheme=HTTP,registry.ca=-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----": "'empty, because registry.scheme is HTTP'",
		"registry.password=only":                                                                     "'/registry/username': value must be 'that of registry.password",
		"registry.username=only":                                                                     "'/registry/password': value must be 'that of registry.username",
		"registry.username=a:b,registry.password=x":                                                  "'/registry/username': value must be 'one line without a colon'",
		"platformNamespaces={d8-*}":                                                                  "'/platformNamespaces/0': value must be 'the whole name of a namespace",
		"platformNamespaces={Kube}":                                                                  "'/platformNamespaces/0': value must be 'the whole name of a namespace",
		"clusterDomain=.local":                                                                       "'/clusterDomain': value must be 'a DNS name in small letters",
		"store.port=5002":                                                                            "'/store/port': value must be 'another one than 5002",
		"store.path=opt/x":                                                                           "'/store/path': value must be 'an absolute path",
		"store.path=/var/lib":                                                                        "'/store/path': value must be 'a folder of its own",
		"store.path=/etc/registry":                                                                   "'/store/path': value must be 'a folder of its own",
		"store.path=/opt/../etc":                                                                     "'/store/path': value must be 'a folder of its own",
		"store.path=/var/lib/kubelet/x":                                                              "'/store/path': value must be 'a folder of its own",
		"store.quota=200":                                                                            "'/store/quota': got number, want string",
		providerOf("name=../sh"):                                                                     "'/credentialProviders/providers/0/name': value must be 'the file name of a plugin",
		providerOf("apiVersion=v1"):                                                                  "'/credentialProviders/providers/0/apiVersion': value must be 'credentialprovider.kubelet.k8s.io/v1'",
		providerOf("matchImages={https://x.io}"):                                                     "'/credentialProviders/providers/0/matchImages/0': value must be 'host[:port][/path], with * in the host only",
		providerOf("defaultCacheDuration=6"):                                                         "'/credentialProviders/providers/0/defaultCacheDuration': ",
		providerOf("tokenAttributes.cacheType=Token"):                                                "additional properties 'tokenAttributes' not allowed",
		providerOf("name=ecr"):                                                                       "'/credentialProviders/volume': value must be 'a volume with the plugins",
		"controller.extraArgs={proxy-idle}":                                                          "'/controller/extraArgs/0': value must be 'an argument that begins with -",
	} {
		out, err := helm(t, "template", "registry", "registry", "-f", "testdata/minimal.yaml", "--set", bad)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v\n%s\nwant %s", bad, err, out, want)
		}
	}
	for _, good := range []string{
		"store.path=/var/lib/etc,store.port=5001", "store.path=/opt/etc.d/..store",
		"image=", "image=:v1", "image=modules/reg.istry:v1", "image=my.registry:v1",
		"registry.ca=# of 2026\n-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n# end",
		"registry.imagesRepo=registry:5000/x", "registry.imagesRepo=[fd00::1]:5000/x", "registry.imagesRepo=registry.example.test", "registry.imagesRepo=10.0.0.1:5000/a_b/c",
	} {
		mustHelm(t, "template", "registry", "registry", "-f", "testdata/minimal.yaml", "--set", good)
	}
}

// providerOf are the values of a credential provider that is right but for one field.
func providerOf(field string) string {
	const at = "credentialProviders.providers[0]."
	all := []string{at + "name=ecr", at + "apiVersion=credentialprovider.kubelet.k8s.io/v1", at + "matchImages={*.example.test}", at + "defaultCacheDuration=6h"}
	name, _, _ := strings.Cut(field, "=")
	all = slices.DeleteFunc(all, func(value string) bool { return strings.HasPrefix(value, at+name+"=") })
	return strings.Join(append(all, at+field), ",")
}

// TestDeploy compares the chart with what the tests of deploy and everybody
// else's run against: each object of the one is in the other.
func TestDeploy(t *testing.T) {
	t.Parallel()
	rendered, err := apiserver.ParseManifests([]byte(render(t, "-f", "testdata/minimal.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*unstructured.Unstructured{}
	for _, o := range rendered {
		name := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
		if byName[name] != nil {
			t.Errorf("%s is there twice", name)
		}
		byName[name] = o
	}
	count := 0
	for _, dir := range []string{"crds", "rbac", "admission"} {
		objects, err := apiserver.ReadManifests(filepath.Join("..", "deploy", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			name := o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
			if o.GetKind() == "Namespace" {
				continue // the chart's has a label more
			}
			count++
			if got := byName[name]; got != nil {
				got.SetAnnotations(withoutHelm(got.GetAnnotations()))
			}
			if got := byName[name]; got == nil || !equality.Semantic.DeepEqual(got.Object, o.Object) {
				t.Errorf("%s of deploy/%s is not in the chart as it is", name, dir)
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d objects were compared", count)
	}
}

// withoutHelm are annotations without those that are for Helm or say that the
// chart is where the object is from.
func withoutHelm(annotations map[string]string) map[string]string {
	kept := map[string]string{}
	for k, v := range annotations {
		if !strings.HasPrefix(k, "helm.sh/") && k != v1alpha1.AnnotationMadeBy {
			kept[k] = v
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return kept
}
