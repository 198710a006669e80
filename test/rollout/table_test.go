package rollout

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// row is one workload and what a switch makes of it.
type row struct {
	object client.Object
	// moved: its template names the fixed address afterwards. left is why not,
	// as the condition says; empty for what is not the platform's.
	moved bool
	left  string
	// now and before are how many of its Pods have images of the new and the old
	// name afterwards; some is any number from 1 on.
	now, before int
	// steady: it is never less available than before. Others replace Pods where
	// they stand, or were broken.
	steady bool
	// stuck: it was broken before, and its rollout never ends.
	stuck bool
}

const some = -1

// table is the platform before the switch. Of four nodes three are there.
func table(base layout.Name) []row {
	image := base.Reference(":v1")
	return []row{
		{object: in("d8-system", deployment("deckhouse", 1, image)), moved: true, now: 1, steady: true},
		{object: deployment("web", 3, image, everyKindOfReference(base)), moved: true, now: 3, steady: true},
		{object: deployment("slow", 2, image, func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 1 }), moved: true, now: 2, steady: true},
		{object: deployment("guarded", 1, image), moved: true, now: 1, steady: true}, // by a PodDisruptionBudget
		{object: deployment("always", 1, image, pull(corev1.PullAlways)), moved: true, now: 1, steady: true},
		{object: deployment("recreate", 2, image, func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }), moved: true, now: 2},
		{object: deployment("none", 0, image), moved: true, steady: true},
		{object: deployment("scaled", 1, image), moved: true, now: 4, steady: true},                                   // when it is re-pointed
		{object: deployment("doomed", 3, image)},                                                                      // deleted when it is re-pointed
		{object: deployment("owners", 4, image, fate(fateSlow)), moved: true, now: 4},                                 // its owner rolls it just then
		{object: deployment("broken", 2, image, fate(fateBroken)), moved: true, now: some, before: some, stuck: true}, // before and after
		{object: deployment("paused", 1, image), moved: true, before: 1, steady: true},                                // once it runs
		{object: deployment("optedout", 1, image, annotated(v1alpha1.AnnotationRepoint, "false")), before: 1, steady: true, left: "annotation registry.deckhouse.io/repoint is false"},
		{object: deployment("operated", 1, image, func(d *appsv1.Deployment) {
			d.OwnerReferences = []metav1.OwnerReference{{APIVersion: "monitoring.coreos.com/v1", Kind: "Prometheus", Name: "main", UID: "0"}}
		}), left: "it is made by Prometheus main", before: 1, steady: true},
		{object: deployment("flux", 1, image), before: 1, steady: true, left: "its images are applied by kustomize-controller"},
		{object: deployment("argo", 1, image, annotated("argocd.argoproj.io/tracking-id", "app:apps/Deployment:d8-monitoring/argo")), before: 1, steady: true, left: "its images are applied by argocd"},
		{object: deployment("loaded", 1, image, pull(corev1.PullNever)), before: 1, steady: true,
			left: "imagePullPolicy of container main is Never, and nodes have its image under this name only"},
		{object: deployment("neighbour", 1, base.String()+"-extra/x:1"), steady: true}, // no path boundary
		{object: in(tenant, deployment("theirs", 1, image, func(d *appsv1.Deployment) { d.Labels = nil })), before: 1, steady: true},
		{object: statefulSet("db", 3, image), moved: true, now: 3},
		{object: statefulSet("parted", 3, image, func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: ptr.To[int32](2)}
		}), moved: true, now: 1, before: 2},
		{object: statefulSet("byhand", 1, image, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType }), moved: true, before: 1},
		{object: statefulSet("ordered", 2, image, func(s *appsv1.StatefulSet) {
			s.Spec.Template.Annotations = map[string]string{annotationFate: fateBroken}
		}), moved: true, before: 1, stuck: true},
		{object: daemonSet("exporter", image), moved: true, now: 3},
		{object: daemonSet("surging", image, func(d *appsv1.DaemonSet) {
			d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: ptr.To(intstr.FromInt32(0)), MaxSurge: ptr.To(intstr.FromInt32(1))}
		}), moved: true, now: 3, steady: true},
		{object: daemonSet("ondelete", image, func(d *appsv1.DaemonSet) { d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }), moved: true, before: 3, steady: true},
		{object: daemonSet("half", image, func(d *appsv1.DaemonSet) {
			d.Spec.Template.Annotations = map[string]string{annotationFate: fateBrokenOn}
		}), moved: true, now: some, before: some, stuck: true},
		{object: daemonSet("everywhere", image, func(d *appsv1.DaemonSet) {
			d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		}), moved: true, before: 3, stuck: true}, // also on the node that is lost: it may not miss another
		{object: cronJob("cron", image), moved: true},
		{object: &batchv1.Job{ObjectMeta: meta("job"), Spec: batchv1.JobSpec{Suspend: ptr.To(true), Template: jobTemplate("job", image)}}},
		{object: &appsv1.ReplicaSet{ObjectMeta: meta("standalone"), Spec: appsv1.ReplicaSetSpec{Selector: selector("standalone"), Template: template("standalone", image)}}, before: 1},
	}
}

// everyKindOfReference: init containers, one of them a sidecar, a tag with a
// digest, an image volume, and images of others between them.
func everyKindOfReference(base layout.Name) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		spec := &d.Spec.Template.Spec
		spec.InitContainers = []corev1.Container{
			{Name: "zeroth", Image: base.Reference(":v1")},
			{Name: "foreign", Image: "docker.io/library/busybox:1"},
			{Name: "sidecar", Image: base.Reference(":v1"), RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
		}
		spec.Containers = append(spec.Containers, corev1.Container{Name: "another", Image: base.Reference(":v1@" + digestPlaceholder)})
		spec.Volumes = []corev1.Volume{
			{Name: "cache", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: base.Reference(":v1")}}},
		}
	}
}

// digestPlaceholder stands for the digest of the one image.
const digestPlaceholder = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// budget forbids that the guarded Deployment loses its Pod to an eviction: a
// rollout is none.
func budget() *policyv1.PodDisruptionBudget {
	one := intstr.FromInt32(1)
	return &policyv1.PodDisruptionBudget{ObjectMeta: meta("guarded"), Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: selector("guarded")}}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: platform, Name: name, Labels: map[string]string{"heritage": "deckhouse"}}
}

func in[T client.Object](namespace string, o T) T {
	o.SetNamespace(namespace)
	return o
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func template(app, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "main", Image: image}},
			ImagePullSecrets:              []corev1.LocalObjectReference{{Name: v1alpha1.SecretRegistry}},
			TerminationGracePeriodSeconds: ptr.To[int64](1),
		},
	}
}

func deployment(name string, replicas int32, image string, changes ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: meta(name), Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: selector(name), Template: template(name, image)}}
	for _, change := range changes {
		change(d)
	}
	return d
}

func statefulSet(name string, replicas int32, image string, changes ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{ObjectMeta: meta(name), Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: selector(name), Template: template(name, image), ServiceName: name}}
	for _, change := range changes {
		change(s)
	}
	return s
}

func daemonSet(name, image string, changes ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{ObjectMeta: meta(name), Spec: appsv1.DaemonSetSpec{Selector: selector(name), Template: template(name, image)}}
	for _, change := range changes {
		change(d)
	}
	return d
}

func cronJob(name, image string) *batchv1.CronJob {
	return &batchv1.CronJob{ObjectMeta: meta(name), Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *",
		JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: jobTemplate(name, image)}}}}
}

func jobTemplate(app, image string) corev1.PodTemplateSpec {
	t := template(app, image)
	t.Spec.RestartPolicy = corev1.RestartPolicyNever
	return t
}

func pull(policy corev1.PullPolicy) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].ImagePullPolicy = policy }
}

func fate(value string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Annotations = map[string]string{annotationFate: value} }
}

func annotated(name, value string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Annotations = map[string]string{name: value} }
}

// templateOf is the Pod template of a workload.
func templateOf(o client.Object) *corev1.PodTemplateSpec {
	switch o := o.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *appsv1.ReplicaSet:
		return &o.Spec.Template
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template
	case *batchv1.Job:
		return &o.Spec.Template
	}
	return nil
}

// imagesOf are all references of a Pod.
func imagesOf(spec *corev1.PodSpec) []string {
	var all []string
	for i := range spec.InitContainers {
		all = append(all, spec.InitContainers[i].Image)
	}
	for i := range spec.Containers {
		all = append(all, spec.Containers[i].Image)
	}
	for i := range spec.Volumes {
		if v := spec.Volumes[i].Image; v != nil {
			all = append(all, v.Reference)
		}
	}
	return all
}
