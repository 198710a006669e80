package deploy

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/test/harness/apiserver"
)

// What policies say to the controller about workloads.
const (
	onlyImages     = "The registry controller may change images and its own annotations of a workload and nothing else."
	onlyContainers = "The registry controller may change the images of containers and nothing else of them."
	onlyVolumes    = "The registry controller may change the images of volumes and nothing else of them."
	onlyWhere      = "The registry controller may change where an image is taken from, but neither its tag nor its digest."
	onlyNotes      = "The registry controller may write annotations registry.deckhouse.io/* of a workload and no others."
	onlyChecksum   = "The registry controller may write annotation checksum/registry-version of a pod template and no other."
	onlyOwn        = "The registry controller may make and delete its own workloads only."
	onlyAgents     = "The registry controller may delete Pods of the agents in d8-system and touch no other Pod."
)

func asController(t *testing.T, api *apiserver.API) client.Client {
	t.Helper()
	return api.ClientFor(t, api.As(t, apiserver.Process{ServiceAccount: "registry-controller", Node: "n1"}))
}

// smp is a strategic merge patch as YAML, which is what the controller sends.
func smp(t *testing.T, body string) client.Patch {
	t.Helper()
	return client.RawPatch(types.StrategicMergePatchType, []byte(toJSON(t, parseYAML(t, body))))
}

// others makes the workloads of testdata in a namespace of the test's own.
func others(t *testing.T, api *apiserver.API) map[string]*unstructured.Unstructured {
	t.Helper()
	ns := api.Namespace(t)
	objects, err := apiserver.ParseManifests([]byte(readFile(t, "workloads.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	byKind := map[string]*unstructured.Unstructured{}
	for _, o := range objects {
		o.SetNamespace(ns)
		if err := api.Client().Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		byKind[o.GetKind()] = o
	}
	return byKind
}

// pod is a patch of a pod template, where it is in a workload of the kind.
func pod(kind, body string) string {
	if kind == "CronJob" {
		return "{spec: {jobTemplate: {spec: {template: " + body + "}}}}"
	}
	return "{spec: {template: " + body + "}}"
}

// TestControllerRepoints: what re-pointing writes is let through, in every kind.
func TestControllerRepoints(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	const fixed = "registry.d8-system.svc:5001/system/deckhouse"
	all := others(t, api)
	for kind, spec := range map[string]string{
		"Deployment": `{initContainers: [{name: migrate, image: "%[1]s@sha256:1111111111111111111111111111111111111111111111111111111111111111"},
			{name: sidecar, image: "%[1]s/sidecar:v1"}], containers: [
			{name: web, image: "%[1]s:v1@sha256:2222222222222222222222222222222222222222222222222222222222222222"}, {name: plain, image: "%[1]s/plain"}]}`,
		"DaemonSet":   `{containers: [{name: logger, image: "%[1]s/logger:v1"}]}`,
		"StatefulSet": `{containers: [{name: store, image: "%[1]s/store:v1"}]}`,
		"CronJob":     `{containers: [{name: report, image: "%[1]s/report:v1"}]}`,
	} {
		t.Run(kind, func(t *testing.T) {
			o := all[kind]
			before := o.GetGeneration()
			template := "{metadata: {annotations: {checksum/registry-version: abc}}, spec: " + fmt.Sprintf(spec, fixed) + "}"
			notes := "{metadata: {annotations: {registry.deckhouse.io/repointed: '7', registry.deckhouse.io/available-before: '1'}}}"
			for _, body := range []string{notes, pod(kind, template)} {
				if err := controller.Patch(t.Context(), o, smp(t, body)); err != nil {
					t.Fatal(err)
				}
			}
			if o.GetGeneration() == before {
				t.Error("nothing changed")
			}
			if err := controller.Patch(t.Context(), o, smp(t, notes)); err != nil {
				t.Error(err) // of a workload that was re-pointed before
			}
		})
	}
}

// TestControllerChangesImagesOnly: everything else is refused, whatever roles say.
func TestControllerChangesImagesOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	all := others(t, api)
	const evil = "evil.example.com/x"
	for _, tt := range []struct{ name, kind, patch, want string }{
		{"replicas", "Deployment", "{spec: {replicas: 0}}", onlyImages},
		{"unpause", "Deployment", "{spec: {paused: null}}", onlyImages},
		{"new field", "Deployment", "{spec: {minReadySeconds: 5}}", onlyImages},
		{"strategy", "DaemonSet", "{spec: {updateStrategy: {type: RollingUpdate}}}", onlyImages},
		{"suspend", "CronJob", "{spec: {suspend: true}}", onlyImages},
		{"schedule", "CronJob", "{spec: {schedule: '* * * * *'}}", onlyImages},
		{"job template", "CronJob", "{spec: {jobTemplate: {metadata: {labels: {a: b}}}}}", onlyImages},
		{"job", "CronJob", "{spec: {jobTemplate: {spec: {backoffLimit: 6}}}}", onlyImages},
		{"labels", "Deployment", "{metadata: {labels: {app: other}}}", onlyImages},
		{"finalizer", "Deployment", "{metadata: {finalizers: [a.b/c]}}", onlyImages},
		{"owner", "Deployment", "{metadata: {ownerReferences: [{apiVersion: v1, kind: Node, name: n1, uid: x}]}}", onlyImages},
		{"annotation", "Deployment", "{metadata: {annotations: {owner: me}}}", onlyNotes},
		{"remove an annotation", "Deployment", "{metadata: {annotations: {owner: null}}}", onlyNotes},
		{"template label", "Deployment", pod("", "{metadata: {labels: {a: b}}}"), onlyImages},
		{"template annotation", "Deployment", pod("", "{metadata: {annotations: {checksum/config: x}}}"), onlyChecksum},
		{"new template annotation", "CronJob", pod("CronJob", "{metadata: {annotations: {a: x}}}"), onlyChecksum},
		{"account", "Deployment", pod("", "{spec: {serviceAccountName: admin}}"), onlyImages},
		{"host network", "Deployment", pod("", "{spec: {hostNetwork: true}}"), onlyImages},
		{"no longer host network", "DaemonSet", pod("", "{spec: {hostNetwork: null}}"), onlyImages},
		{"pull secrets", "Deployment", pod("", "{spec: {imagePullSecrets: [{name: other}]}}"), onlyImages},
		{"node", "CronJob", pod("CronJob", "{spec: {nodeName: n1}}"), onlyImages},
		{"new container", "Deployment", pod("", "{spec: {containers: [{name: new, image: 'a/b:v1'}]}}"), onlyContainers},
		{"no container", "Deployment", pod("", "{spec: {containers: [{name: plain, $patch: delete}]}}"), onlyContainers},
		{"no sidecar", "Deployment", pod("", "{spec: {initContainers: [{name: sidecar, $patch: delete}]}}"), onlyContainers},
		{"order of init containers", "Deployment", pod("", "{spec: {$setElementOrder/initContainers: [{name: sidecar}, {name: migrate}]}}"), onlyContainers},
		{"command", "Deployment", pod("", "{spec: {containers: [{name: web, command: [sh]}]}}"), onlyContainers},
		{"init command", "Deployment", pod("", "{spec: {initContainers: [{name: migrate, command: [sh]}]}}"), onlyContainers},
		{"environment", "Deployment", pod("", "{spec: {containers: [{name: web, env: [{name: A, value: b}]}]}}"), onlyContainers},
		{"privileged", "StatefulSet", pod("", "{spec: {containers: [{name: store, securityContext: {privileged: true}}]}}"), onlyContainers},
		{"less privileged", "DaemonSet", pod("", "{spec: {containers: [{name: logger, securityContext: null}]}}"), onlyContainers},
		{"new volume", "Deployment", pod("", "{spec: {volumes: [{name: host, hostPath: {path: /}}]}}"), onlyVolumes},
		{"another volume", "Deployment", pod("", "{spec: {volumes: [{name: config, configMap: {name: x}}]}}"), onlyVolumes},
		{"another path", "DaemonSet", pod("", "{spec: {volumes: [{name: log, hostPath: {path: /}}]}}"), onlyVolumes},
		{"tag", "DaemonSet", pod("", "{spec: {containers: [{name: logger, image: '"+evil+":v2'}]}}"), onlyWhere},
		{"tag for nothing", "Deployment", pod("", "{spec: {containers: [{name: plain, image: '"+evil+":v2'}]}}"), onlyWhere},
		{"tag for digest", "Deployment", pod("", "{spec: {initContainers: [{name: migrate, image: '"+evil+":v2'}]}}"), onlyWhere},
		{"digest", "Deployment", pod("", "{spec: {initContainers: [{name: migrate, image: '"+evil+"@sha256:"+strings.Repeat("3", 64)+"'}]}}"), onlyWhere},
		{"digest beside its tag", "Deployment", pod("", "{spec: {containers: [{name: web, image: '"+evil+":v1@sha256:"+strings.Repeat("3", 64)+"'}]}}"), onlyWhere},
		{"digest in a CronJob", "CronJob", pod("CronJob", "{spec: {containers: [{name: report, image: '"+evil+"@sha256:"+strings.Repeat("3", 64)+"'}]}}"), onlyWhere},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, controller.Patch(t.Context(), all[tt.kind].DeepCopy(), smp(t, tt.patch), client.DryRunAll), tt.want)
			// The same by an administrator shows that it is the policy that refuses.
			if err := api.Client().Patch(t.Context(), all[tt.kind].DeepCopy(), smp(t, tt.patch), client.DryRunAll); err != nil {
				t.Errorf("nobody may do that: %v", err)
			}
		})
	}
}

// TestImageVolumes are the newest way to name an image.
func TestImageVolumes(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	o := others(t, api)["StatefulSet"]
	volume := func(image string) string { return pod("", "{spec: {volumes: [{name: model, image: "+image+"}]}}") }
	if err := api.Client().Patch(t.Context(), o, smp(t, volume("{reference: 'registry.example.com/d8/model:v1', pullPolicy: Always}"))); err != nil {
		t.Skipf("no image volumes here: %v", err)
	}
	if kept := toJSON(t, o.Object); !strings.Contains(kept, `"reference"`) {
		t.Skip("this API server drops image volumes")
	}
	for _, tt := range []struct{ image, want string }{
		{"{reference: 'registry.d8-system.svc:5001/system/deckhouse/model:v1'}", ""},
		{"{reference: 'registry.d8-system.svc:5001/system/deckhouse/model:v2'}", onlyWhere},
		{"{reference: 'registry.d8-system.svc:5001/system/deckhouse/model:v1', pullPolicy: Never}", onlyVolumes},
		{"null, hostPath: {path: /}", onlyVolumes},
	} {
		check(t, controller.Patch(t.Context(), o.DeepCopy(), smp(t, volume(tt.image)), client.DryRunAll), tt.want)
	}
}

// TestWorkloadsPolicyIsCheap: the API server gives an expression a budget, and a
// policy that runs out of it would hold up the switch. These pods are nearly as large
// as an object may be: some have few containers with much in them, some have many.
func TestWorkloadsPolicyIsCheap(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	for _, size := range []big{{120, 40, 10, 120}, {500, 4, 1, 500}, {3000, 0, 0, 3000}} {
		o, changes := size.deployment(api.Namespace(t))
		if err := api.Client().Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		try := func() error {
			patch := map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": changes}}}}
			return controller.Patch(t.Context(), o.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(toJSON(t, patch))), client.DryRunAll)
		}
		check(t, try(), "")
		// The last of them is looked at too.
		last := len(changes) - 1
		changes[last] = map[string]any{"name": fmt.Sprintf("c%d", last), "command": []any{"evil"}}
		check(t, try(), onlyContainers)
	}
}

// big says how many containers a pod has, what is in each, and how many volumes
// there are.
type big struct{ containers, env, mounts, volumes int }

// deployment is one with such a pod, and the patch that re-points its containers.
func (b big) deployment(namespace string) (o *unstructured.Unstructured, changes []any) {
	containers, volumes := []any{}, []any{}
	for i := range b.containers {
		env, mounts := []any{}, []any{}
		for j := range b.env {
			env = append(env, map[string]any{"name": fmt.Sprintf("VARIABLE_%d", j), "value": strings.Repeat("x", 50)})
		}
		for j := range b.mounts {
			mounts = append(mounts, map[string]any{"name": fmt.Sprintf("v%d", j), "mountPath": fmt.Sprintf("/mnt/%d", j)})
		}
		name := fmt.Sprintf("c%d", i)
		containers = append(containers, map[string]any{"name": name, "image": "registry.example.com/d8/" + name + ":v1", "env": env, "volumeMounts": mounts,
			"command": []any{"run"}, "resources": map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "1Mi"}}})
		changes = append(changes, map[string]any{"name": name, "image": "registry.d8-system.svc:5001/system/deckhouse/" + name + ":v1"})
	}
	for i := range b.volumes {
		volumes = append(volumes, map[string]any{"name": fmt.Sprintf("v%d", i), "emptyDir": map[string]any{}})
	}
	labels := map[string]any{"app": "big"}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "big", "namespace": namespace},
		"spec": map[string]any{"selector": map[string]any{"matchLabels": maps.Clone(labels)}, "template": map[string]any{
			"metadata": map[string]any{"labels": labels}, "spec": map[string]any{"containers": containers, "volumes": volumes}}},
	}}, changes
}

// Not in parallel: other tests are about what the controller may not do.
func TestWorkloadsPolicyStandsAlone(t *testing.T) {
	api := server.Start(t)
	controller := asController(t, api)
	bindClusterAdmin(t, api, "registry-controller", controller)
	all := others(t, api)
	deployment := all["Deployment"]
	fresh := deployment.DeepCopy()
	fresh.SetName("fresh")
	fresh.SetResourceVersion("")
	fresh.SetUID("")
	check(t, controller.Create(t.Context(), fresh, client.DryRunAll), onlyOwn)
	check(t, controller.Delete(t.Context(), deployment.DeepCopy(), client.DryRunAll), onlyOwn)
	check(t, controller.Delete(t.Context(), all["CronJob"].DeepCopy(), client.DryRunAll), onlyOwn)
	scale := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`))
	check(t, controller.SubResource("scale").Patch(t.Context(), deployment.DeepCopy(), scale, &client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: []string{"All"}}}), onlyOwn)

	for _, tt := range []struct{ kind, name, want string }{
		{"Deployment", v1alpha1.DeploymentProxy, ""},
		{"DaemonSet", v1alpha1.DaemonSetAgent, ""},
		{"DaemonSet", "registry-nodeservices-1", ""},
		{"DaemonSet", "registry-nodeservices-9", ""},
		{"DaemonSet", "registry-nodeservices-10", onlyOwn},
		{"DaemonSet", "registry-nodeservices", onlyOwn},
		{"Deployment", "registry-nodeservices-1", onlyOwn},
		{"Deployment", v1alpha1.DaemonSetAgent, onlyOwn},
		{"DaemonSet", "another", onlyOwn},
	} {
		o := all[tt.kind].DeepCopy()
		o.SetNamespace(v1alpha1.Namespace)
		o.SetName(tt.name)
		o.SetResourceVersion("")
		o.SetUID("")
		check(t, controller.Create(t.Context(), o.DeepCopy(), client.DryRunAll), tt.want)
		o.SetNamespace(deployment.GetNamespace())
		check(t, controller.Create(t.Context(), o, client.DryRunAll), onlyOwn)
	}
}

func TestControllerDeletesAgentsPodsOnly(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	make := func(name, app string) *corev1.Pod {
		o := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name, Labels: map[string]string{"app": app}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}, ServiceAccountName: "registry-agent"},
		}
		api.As(t, apiserver.Process{ServiceAccount: "registry-agent"}) // its account is there
		present(t, api, o)
		return o
	}
	agent, other := make("agent-of-a-node", v1alpha1.DaemonSetAgent), make("somebody", "somebody")
	check(t, controller.Delete(t.Context(), other, client.DryRunAll), onlyAgents)
	check(t, controller.Delete(t.Context(), agent, client.DryRunAll, client.Preconditions{UID: &agent.UID}), "")
	if err := controller.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(v1alpha1.Namespace), client.DryRunAll); err == nil {
		t.Error("may delete pods by the dozen")
	}
	labelled := other.DeepCopy()
	if err := controller.Patch(t.Context(), labelled, mergePatch(t, "{metadata: {labels: {app: registry-agent}}}")); err == nil {
		t.Error("may make a Pod an agent's")
	}
}

func TestControllerCreatesByName(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	for _, tt := range []struct{ yaml, own, resource string }{
		{"{apiVersion: v1, kind: ConfigMap, metadata: {namespace: d8-system}}", "registry-image-address", "configmaps"},
		{"{apiVersion: v1, kind: Service, metadata: {namespace: d8-system}, spec: {ports: [{port: 1}]}}", "registry", "services"},
		{"{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {namespace: d8-system}}", "registry-controller", "leases"},
		{"{apiVersion: deckhouse.io/v1alpha1, kind: Module, metadata: {}}", "registry", "modules"},
	} {
		t.Run(tt.resource, func(t *testing.T) {
			for name, want := range map[string]string{tt.own: "", "other": "The registry controller may create of " + tt.resource + " only '" + tt.own + "'."} {
				fields, ok := parseYAML(t, tt.yaml).(map[string]any)
				if !ok {
					t.Fatal(tt.yaml)
				}
				o := &unstructured.Unstructured{Object: fields}
				o.SetName(name)
				err := controller.Create(t.Context(), o, client.DryRunAll)
				check(t, client.IgnoreAlreadyExists(err), want)
			}
		})
	}
}

// TestControllerMovesTheUninstallPod: its image was rendered long ago, and may
// have to come from elsewhere by now.
func TestControllerMovesTheUninstallPod(t *testing.T) {
	t.Parallel()
	api := server.Start(t)
	controller := asController(t, api)
	const only = "The registry controller may change where the image of Pod registry-uninstall is taken from and nothing else."
	fields := func(name string) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name, Labels: map[string]string{"app": name}},
			Spec: corev1.PodSpec{
				ServiceAccountName: "registry-proxy",
				Containers:         []corev1.Container{{Name: "uninstall", Image: "registry.example.com/d8/registry:v1"}},
			},
		}
	}
	api.As(t, apiserver.Process{ServiceAccount: "registry-proxy"}) // its account is there
	present(t, api, fields("registry-uninstall"))
	present(t, api, fields("registry-other"))
	image := func(image string) string {
		return "{spec: {containers: [{name: uninstall, image: '" + image + "'}]}}"
	}
	for _, tt := range []struct{ name, pod, patch, want string }{
		{"elsewhere", "registry-uninstall", image("registry.other.com:5000/x/registry:v1"), ""},
		{"another tag", "registry-uninstall", image("registry.other.com/registry:v2"), only},
		{"label", "registry-uninstall", "{metadata: {labels: {app: registry-agent}}}", only},
		{"annotation", "registry-uninstall", "{metadata: {annotations: {a: b}}}", only},
		{"deadline", "registry-uninstall", "{spec: {activeDeadlineSeconds: 1}}", only},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, controller.Patch(t.Context(), fields(tt.pod), smp(t, tt.patch), client.DryRunAll), tt.want)
		})
	}
	if err := controller.Patch(t.Context(), fields("registry-other"), smp(t, image("a:v1")), client.DryRunAll); err == nil {
		t.Error("may move any Pod")
	}
}
