package platform

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/fleet"
)

func TestTheCensusFindsEveryReference(t *testing.T) {
	t.Parallel()
	done := []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	suspended := true
	static := corev1.Pod{ObjectMeta: fleet.InNS("static"), Spec: fleet.Spec("other.io/x:1")}
	static.Spec.InitContainers = []corev1.Container{{Image: "r.io/d8/init:1"}}
	static.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Image: "r.io/d8/debug:1"}}}
	static.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r.io/d8/volume:1"}}}}
	inv := &cluster.Inventory{
		Whose:        fleet.Whose(),
		Namespaces:   map[string]labels.Set{"ns": {"heritage": "deckhouse"}},
		Deployments:  []appsv1.Deployment{{ObjectMeta: fleet.InNS("d"), Spec: appsv1.DeploymentSpec{Template: fleet.Template("r.io/d8:v1")}}},
		DaemonSets:   []appsv1.DaemonSet{{ObjectMeta: fleet.InNS("ds"), Spec: appsv1.DaemonSetSpec{Template: fleet.Template("r.io/d8/a@sha256:" + strings.Repeat("a", 64))}}},
		StatefulSets: []appsv1.StatefulSet{{ObjectMeta: fleet.InNS("sts"), Spec: appsv1.StatefulSetSpec{Template: fleet.Template("registry.d8-system.svc:5001/system/deckhouse/b:2")}}},
		CronJobs:     []batchv1.CronJob{{ObjectMeta: fleet.InNS("cron"), Spec: batchv1.CronJobSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: fleet.Template("r.io/d8/c")}}}}},
		RegistryNodes: []v1alpha1.RegistryNode{
			{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: v1alpha1.RegistryNodeStatus{Containerd: v1alpha1.ContainerdStatus{SandboxImage: "r.io/d8/pause:3.9"}}},
			{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: v1alpha1.RegistryNodeStatus{Containerd: v1alpha1.ContainerdStatus{SandboxImage: "registry.k8s.io/pause:3.9"}}},
		},
		Makers: fleet.Makers(
			&batchv1.Job{ObjectMeta: fleet.InNS("finished"), Spec: batchv1.JobSpec{Template: fleet.Template("r.io/d8/gone:1")}, Status: batchv1.JobStatus{Conditions: done}},
			&batchv1.Job{ObjectMeta: fleet.InNS("suspended"), Spec: batchv1.JobSpec{Suspend: &suspended, Template: fleet.Template("r.io/d8/job:1")}},
			&appsv1.ReplicaSet{ObjectMeta: fleet.InNS("rs"), Spec: appsv1.ReplicaSetSpec{Template: fleet.Template("r.io/d8/revision:1")}},
			&corev1.ReplicationController{ObjectMeta: fleet.InNS("rc"), Spec: corev1.ReplicationControllerSpec{Template: func() *corev1.PodTemplateSpec { t := fleet.Template("r.io/d8/replicated:1"); return &t }()}},
			&corev1.ReplicationController{ObjectMeta: fleet.InNS("empty")},
			&appsv1.ControllerRevision{ObjectMeta: fleet.InNS("rev"),
				Data: runtime.RawExtension{Raw: []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"x","image":"r.io/d8/controllerrevision:1"}]}}}}`)}},
		),
		Pods: fleet.Pods(
			static,
			corev1.Pod{ObjectMeta: fleet.InNS("finished"), Spec: fleet.Spec("r.io/d8/done:1"), Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
			corev1.Pod{ObjectMeta: fleet.InNS("boundary"), Spec: fleet.Spec("r.io/d8extra/x:1")},
			corev1.Pod{ObjectMeta: fleet.InNS("elsewhere"), Spec: fleet.Spec("r.io:5000/d8/x:1")},
		),
		Live: true,
	}
	census := mover().Census(inv, []layout.Name{fleet.Old(), layout.Fixed()}, 0, ":own")
	var got []string
	for _, r := range census.References {
		got = append(got, fmt.Sprintf("%s|%s|%s|%t", r.Name, r.Image, r.User, r.Movable))
		if r.Foreign || r.Ignored || (r.Namespace == "") == (r.Node == "") {
			t.Errorf("%s is told as somebody else's: %+v", r.User, r)
		}
	}
	want := []string{
		"r.io/d8|controllerrevision:1|ControllerRevision ns/rev|false",
		"r.io/d8|c|CronJob ns/cron|true",
		"r.io/d8|a@sha256:" + strings.Repeat("a", 64) + "|DaemonSet ns/ds|true",
		"r.io/d8|:v1|Deployment ns/d|true",
		"r.io/d8|job:1|Job ns/suspended|false",
		"r.io/d8|debug:1|Pod ns/static|false",
		"r.io/d8|init:1|Pod ns/static|false",
		"r.io/d8|volume:1|Pod ns/static|false",
		"r.io/d8|revision:1|ReplicaSet ns/rs|false",
		"r.io/d8|replicated:1|ReplicationController ns/rc|false",
		"r.io/d8|pause:3.9|sandbox of Node n1|false",
		"registry.d8-system.svc:5001/system/deckhouse|b:2|StatefulSet ns/sts|true",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !census.Live || census.Problem != "" {
		t.Errorf("live %v, problem %q", census.Live, census.Problem)
	}
}

// TestStoresAreOurs: a store keeps the image that it was started with, whatever a switch does, so
// its DaemonSet is not moved and what runs holds up nothing. What only looks like one does.
func TestStoresAreOurs(t *testing.T) {
	t.Parallel()
	const here, image = v1alpha1.Namespace, "r.io/d8:v1"
	pod := func(namespace, name, app, owner, ownerName string) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": app}}, Spec: fleet.Spec(image)}
		if owner != "" {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: ownerName, Controller: new(true)}}
		}
		return p
	}
	set := func(name string) appsv1.DaemonSet {
		return appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: here, Name: name}, Spec: appsv1.DaemonSetSpec{Template: fleet.Template(image)}}
	}
	inv := &cluster.Inventory{
		Whose: fleet.Whose(), Namespaces: map[string]labels.Set{here: {"heritage": "deckhouse"}, "ns": {"heritage": "deckhouse"}},
		DaemonSets: []appsv1.DaemonSet{set("registry-nodeservices-1"), set("registry-nodeservices")},
		Pods: fleet.Pods(
			pod(here, "static", "registry-nodeservices", "Node", "n1"),
			pod(here, "of-a-set", "registry-nodeservices", "DaemonSet", "registry-nodeservices-9"),
			pod(here, "of-another", "registry-nodeservices", "DaemonSet", "registry-nodeservices-10"),
			pod(here, "alone", "registry-nodeservices", "", ""),
			pod(here, "another-static", "etcd", "Node", "n1"),
			pod("ns", "elsewhere", "registry-nodeservices", "Node", "n1"),
		),
	}
	var own, others []string
	for _, r := range mover().Census(inv, []layout.Name{fleet.Old()}, 0, ":own").References {
		if r.OwnWorkload {
			own = append(own, r.User)
		} else {
			others = append(others, r.User)
		}
		if r.OwnWorkload && r.Movable {
			t.Errorf("%s is moved", r.User)
		}
	}
	if got, want := strings.Join(own, ", "), "DaemonSet d8-system/registry-nodeservices-1, Pod d8-system/of-a-set, Pod d8-system/static"; got != want {
		t.Errorf("ours are %s, want %s", got, want)
	}
	if len(others) != 5 {
		t.Errorf("others are %q", others)
	}
}

// TestManyContainers: whoever may make a Pod may make one of many containers, and change
// it all the time. With a look at all other images for each one this would take
// half a minute and more; it was seen to take nine seconds on a busy machine.
func TestManyContainers(t *testing.T) {
	t.Parallel()
	const many, within = 100_000, 20 * time.Second
	pod := corev1.Pod{ObjectMeta: fleet.InNS("p")}
	d := appsv1.Deployment{ObjectMeta: fleet.InNS("d")}
	for i := range many {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Image: fmt.Sprintf("r.io/d8/image:%06d", i)})
	}
	d.Spec.Template.Spec.Containers = append(pod.Spec.Containers, pod.Spec.Containers[0])
	begun := time.Now()
	inv := &cluster.Inventory{Whose: fleet.Whose(), Deployments: []appsv1.Deployment{d}, Pods: fleet.Pods(pod)}
	census := mover().Census(inv, []layout.Name{fleet.Old()}, 0, ":own")
	if took := time.Since(begun); took > within {
		t.Errorf("it took %v", took)
	}
	if got := len(census.References); got != 2*many {
		t.Errorf("there are %d references", got)
	}
}

func TestALiveCensusBelievesNoUnobservedTemplate(t *testing.T) {
	t.Parallel()
	d := appsv1.Deployment{ObjectMeta: fleet.InNS("d"), Spec: appsv1.DeploymentSpec{Template: fleet.Template("r.io/d8:v1")}}
	d.Generation = 2
	d.Status.ObservedGeneration = 1
	for _, live := range []bool{true, false} {
		for _, foreign := range []bool{true, false} {
			inv := &cluster.Inventory{Whose: fleet.Whose(), Deployments: []appsv1.Deployment{d}, Live: live}
			if !foreign {
				inv.Whose.Namespaces = []string{"ns"}
			}
			census := mover().Census(inv, []layout.Name{fleet.Old()}, 0, ":own")
			if (census.Problem != "") != (live && !foreign) {
				t.Errorf("live %v, foreign %v: problem %q", live, foreign, census.Problem)
			}
		}
	}
}

func TestRequiredImages(t *testing.T) {
	t.Parallel()
	elsewhere := fleet.InNS("fake")
	elsewhere.Namespace = "mine"
	ignored := fleet.InNS("ignored")
	ignored.Annotations = map[string]string{v1alpha1.AnnotationIgnore: "true"}
	inv := &cluster.Inventory{Namespaces: map[string]labels.Set{"ns": {"heritage": "deckhouse"}, "mine": nil}, Whose: fleet.Whose(), RequiredImages: []corev1.ConfigMap{
		{ObjectMeta: elsewhere, Data: map[string]string{"images_digests.json": `{"m":{"a":"sha256:9","b":"sha256:1"}}`}},
		{ObjectMeta: elsewhere, Data: map[string]string{"images_digests.json": `{{{`}},
		{ObjectMeta: ignored, Data: map[string]string{"images_digests.json": `{{{`}},
		{ObjectMeta: fleet.InNS("good"), Data: map[string]string{"images_digests.json": `{"m":{"b":"sha256:2","a":"sha256:1"},"n":{"a":"sha256:1"}}`}},
		{ObjectMeta: fleet.InNS("bad"), Data: map[string]string{"images_digests.json": `[]`}},
	}}
	r := mover()
	census := r.Census(inv, nil, 0, ":own")
	if got := strings.Join(census.Required, " "); got != ":own @sha256:1 @sha256:2" {
		t.Errorf("required are %s", got)
	}
	if !strings.Contains(census.Problem, "ConfigMap ns/bad") || strings.Contains(census.Problem, ";") || census.Lists != 3 {
		t.Errorf("problem %q, and %d elsewhere", census.Problem, census.Lists)
	}
	if got := Sources(inv, census, ":own")["@sha256:1"]; got != "module/m/a" {
		t.Errorf("sha256:1 is needed by %q", got)
	}
}

func TestWhatIsNotOursToMove(t *testing.T) {
	t.Parallel()
	yes := true
	applied := func(manager string) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{{Manager: manager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(
			`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:image":{}}}}}}}`)}}
	}
	for _, c := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   string
	}{
		{"nothing special", func(*appsv1.Deployment) {}, ""},
		{"opted out", func(d *appsv1.Deployment) { d.Annotations = map[string]string{v1alpha1.AnnotationRepoint: "false"} }, "is false"},
		{"made by a custom resource", func(d *appsv1.Deployment) {
			d.OwnerReferences = []metav1.OwnerReference{{APIVersion: "monitoring.coreos.com/v1", Kind: "Prometheus", Name: "main", Controller: &yes}}
		}, "made by Prometheus main"},
		{"owned by Kubernetes' own", func(d *appsv1.Deployment) {
			d.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "x", Controller: &yes}}
		}, ""},
		{"flux", func(d *appsv1.Deployment) { d.ManagedFields = applied("kustomize-controller") }, "applied by kustomize-controller"},
		{"argo", func(d *appsv1.Deployment) { d.ManagedFields = applied("argocd-controller") }, "applied by argocd-controller"},
		{"helm", func(d *appsv1.Deployment) { d.ManagedFields = applied("helm") }, ""},
		{"flux, but not its images", func(d *appsv1.Deployment) {
			d.ManagedFields = applied("kustomize-controller")
			d.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)
		}, ""},
		{"moved once", func(d *appsv1.Deployment) { d.Annotations = map[string]string{v1alpha1.AnnotationRepointed: "5"} }, "changed back"},
		{"moved in another switch", func(d *appsv1.Deployment) { d.Annotations = map[string]string{v1alpha1.AnnotationRepointed: "4"} }, ""},
		{"owned, not controlled, by a custom resource", func(d *appsv1.Deployment) {
			d.OwnerReferences = []metav1.OwnerReference{{APIVersion: "cluster.x-k8s.io/v1", Kind: "Machine", Name: "m"}}
		}, "made by Machine m"},
		{"being deleted", func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{} }, "being deleted"},
		{"argo that applies as kubectl", func(d *appsv1.Deployment) {
			d.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "app:apps/Deployment:ns/d"}
		}, "applied by argocd"},
		{"argo's mark, copied", func(d *appsv1.Deployment) {
			d.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "app:apps/Deployment:ns/other"}
		}, ""},
		{"flux by its label", func(d *appsv1.Deployment) { d.Labels = map[string]string{"helm.toolkit.fluxcd.io/name": "x"} }, "applied by helm-controller"},
		{"flux by its label, but not its images", func(d *appsv1.Deployment) {
			d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "x"}
			d.ManagedFields = applied("kustomize-controller")
			d.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)
		}, ""},
		{"never pulled", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "loaded", Image: fleet.Old().Reference("x:1"), ImagePullPolicy: corev1.PullNever}}
		}, "imagePullPolicy of container loaded is Never"},
		{"never pulled, and nobody's business", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "loaded", Image: "other.io/x:1", ImagePullPolicy: corev1.PullNever}}
		}, ""},
	} {
		d := &appsv1.Deployment{ObjectMeta: fleet.InNS("d")}
		c.change(d)
		r := mover()
		if got := r.notOurs(cluster.WorkloadOf(d), 5, []layout.Name{fleet.Old()}); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestOnlyThePastIsRetained: a template that may still make pods counts as in use.
func TestOnlyThePastIsRetained(t *testing.T) {
	t.Parallel()
	none, one, yes := int32(0), int32(1), true
	owned := func(name, kind, owner string) metav1.ObjectMeta {
		m := fleet.InNS(name)
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: owner, Controller: &yes}}
		return m
	}
	rs := func(m metav1.ObjectMeta, replicas *int32, has int32) *appsv1.ReplicaSet {
		return &appsv1.ReplicaSet{ObjectMeta: m, Spec: appsv1.ReplicaSetSpec{Replicas: replicas, Template: fleet.Template("r.io/d8/a:1")}, Status: appsv1.ReplicaSetStatus{Replicas: has}}
	}
	revision := func(name string) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{ObjectMeta: fleet.InNS(name), Data: runtime.RawExtension{Raw: []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"a","image":"r.io/d8/a:1"}]}}}}`)}}
	}
	inv := &cluster.Inventory{
		Makers: fleet.Makers(
			rs(owned("past", "Deployment", "d"), &none, 0), rs(owned("ending", "Deployment", "d"), &none, 1),
			rs(owned("now", "Deployment", "d"), &one, 1), rs(fleet.InNS("bare"), &none, 0),
			revision("below"), revision("latest"), revision("older"),
		),
		StatefulSets: []appsv1.StatefulSet{
			{ObjectMeta: fleet.InNS("partitioned"), Status: appsv1.StatefulSetStatus{CurrentRevision: "below", UpdateRevision: "above"}},
			{ObjectMeta: fleet.InNS("whole"), Status: appsv1.StatefulSetStatus{CurrentRevision: "latest", UpdateRevision: "latest"}},
		},
		Pods: fleet.Pods(
			corev1.Pod{ObjectMeta: func() metav1.ObjectMeta {
				m := owned("agent", "DaemonSet", "registry-agent")
				m.Namespace = "d8-system"
				return m
			}(), Spec: fleet.Spec("r.io/d8/a:1")},
			corev1.Pod{ObjectMeta: owned("pod", "DaemonSet", "registry-agent"), Spec: fleet.Spec("r.io/d8/a:1")},
		),
	}
	want := map[string]string{
		"ReplicaSet ns/past": "retained", "ReplicaSet ns/ending": "", "ReplicaSet ns/now": "", "ReplicaSet ns/bare": "",
		"ControllerRevision ns/below": "", "ControllerRevision ns/latest": "retained", "ControllerRevision ns/older": "retained",
		"Pod d8-system/agent": "own", "Pod ns/pod": "",
	}
	for _, r := range mover().Census(inv, []layout.Name{fleet.Old()}, 0, ":own").References {
		got := ""
		switch {
		case r.Retained:
			got = "retained"
		case r.OwnWorkload:
			got = "own"
		}
		if expected, ok := want[r.User]; !ok || got != expected {
			t.Errorf("%s is %q, want %q", r.User, got, expected)
		}
		delete(want, r.User)
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v", want)
	}
}
