package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Use is one place where a name is in use: a template, kept revisions included,
// or a running pod.
type Use struct {
	Name      string // what the image reference starts with
	By        string // "Deployment d8-monitoring/grafana"
	Namespace string
	Secrets   []string // pull secrets of the pod
}

// Template is the pod template of one workload.
type Template struct {
	By   string
	Meta string // namespace of the workload
	Spec corev1.PodSpec
}

// Templates lists the pod templates of the cluster and the running pods.
func Templates(ctx context.Context, reader client.Reader) ([]Template, error) {
	var (
		deployments appsv1.DeploymentList
		replicaSets appsv1.ReplicaSetList
		daemons     appsv1.DaemonSetList
		stateful    appsv1.StatefulSetList
		cron        batchv1.CronJobList
		pods        corev1.PodList
	)
	for _, list := range []client.ObjectList{&deployments, &replicaSets, &daemons, &stateful, &cron, &pods} {
		if err := reader.List(ctx, list); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	var all []Template
	add := func(kind string, o client.Object, spec corev1.PodSpec) {
		all = append(all, Template{By: kind + " " + o.GetNamespace() + "/" + o.GetName(), Meta: o.GetNamespace(), Spec: spec})
	}
	for i := range deployments.Items {
		add("Deployment", &deployments.Items[i], deployments.Items[i].Spec.Template.Spec)
	}
	for i := range replicaSets.Items {
		add("ReplicaSet", &replicaSets.Items[i], replicaSets.Items[i].Spec.Template.Spec)
	}
	for i := range daemons.Items {
		add("DaemonSet", &daemons.Items[i], daemons.Items[i].Spec.Template.Spec)
	}
	for i := range stateful.Items {
		add("StatefulSet", &stateful.Items[i], stateful.Items[i].Spec.Template.Spec)
	}
	for i := range cron.Items {
		add("CronJob", &cron.Items[i], cron.Items[i].Spec.JobTemplate.Spec.Template.Spec)
	}
	for i := range pods.Items {
		if isMirror(&pods.Items[i]) {
			continue // its image was on the node before, and no kubelet has a pull secret for it
		}
		add("Pod", &pods.Items[i], pods.Items[i].Spec)
	}
	return all, nil
}

// Images are the images of a pod.
func Images(spec corev1.PodSpec) []string {
	var images []string
	for _, c := range append(slices.Clone(spec.InitContainers), spec.Containers...) {
		images = append(images, c.Image)
	}
	return images
}

// Uses finds the names in use, among those that the platform's images may start
// with. A name that is only used by our own workloads is in use all the same.
func Uses(ctx context.Context, reader client.Reader, bases []string) (map[string][]Use, error) {
	templates, err := Templates(ctx, reader)
	if err != nil {
		return nil, err
	}
	uses := map[string][]Use{}
	for _, t := range templates {
		for _, image := range Images(t.Spec) {
			for _, base := range bases {
				rest, ok := strings.CutPrefix(image, base)
				if ok && rest != "" && strings.ContainsRune("@:/", rune(rest[0])) {
					uses[base] = append(uses[base], Use{Name: base, By: t.By, Namespace: t.Meta, Secrets: secretNames(t.Spec)})
				}
			}
		}
	}
	return uses, nil
}
