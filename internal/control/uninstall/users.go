package uninstall

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// pullers are those that pull with Secret deckhouse-registry, by namespace. Our
// own workloads, which are about to go, are not among them.
func (u *uninstaller) pullers(ctx context.Context) (map[string][]string, error) {
	found := map[string][]string{}
	note := func(o client.Object, secrets []corev1.LocalObjectReference) {
		if isLeaving(o) || !slices.ContainsFunc(secrets, func(l corev1.LocalObjectReference) bool { return l.Name == v1alpha1.SecretRegistry }) {
			return
		}
		found[o.GetNamespace()] = append(found[o.GetNamespace()], u.kindOf(o)+" "+nameOf(o))
	}
	for _, list := range []client.ObjectList{
		&corev1.PodList{}, &corev1.ServiceAccountList{}, &appsv1.DeploymentList{}, &appsv1.DaemonSetList{}, &appsv1.StatefulSetList{},
		&batchv1.JobList{}, &batchv1.CronJobList{},
	} {
		if err := u.client.List(ctx, list); err != nil {
			return nil, fmt.Errorf("look who pulls with Secret %s: %w", v1alpha1.SecretRegistry, err)
		}
		eachPuller(list, note)
	}
	return found, nil
}

// eachPuller calls note for each object of a list with its pull secrets.
func eachPuller(list client.ObjectList, note func(client.Object, []corev1.LocalObjectReference)) {
	switch l := list.(type) {
	case *corev1.PodList:
		for i := range l.Items {
			if p := l.Items[i].Status.Phase; p != corev1.PodSucceeded && p != corev1.PodFailed {
				note(&l.Items[i], l.Items[i].Spec.ImagePullSecrets)
			}
		}
	case *corev1.ServiceAccountList:
		for i := range l.Items {
			note(&l.Items[i], l.Items[i].ImagePullSecrets)
		}
	default:
		eachTemplate(list, func(o client.Object, t *corev1.PodTemplateSpec) { note(o, t.Spec.ImagePullSecrets) })
	}
}

// eachTemplate is the same for what makes pods.
func eachTemplate(list client.ObjectList, note func(client.Object, *corev1.PodTemplateSpec)) {
	switch l := list.(type) {
	case *appsv1.DeploymentList:
		for i := range l.Items {
			note(&l.Items[i], &l.Items[i].Spec.Template)
		}
	case *appsv1.DaemonSetList:
		for i := range l.Items {
			note(&l.Items[i], &l.Items[i].Spec.Template)
		}
	case *appsv1.StatefulSetList:
		for i := range l.Items {
			note(&l.Items[i], &l.Items[i].Spec.Template)
		}
	case *batchv1.JobList:
		for i := range l.Items {
			note(&l.Items[i], &l.Items[i].Spec.Template)
		}
	case *batchv1.CronJobList:
		for i := range l.Items {
			note(&l.Items[i], &l.Items[i].Spec.JobTemplate.Spec.Template)
		}
	}
}

// users are the pods, and what makes pods, that name images by an address which
// goes with the layout, at most ten of them. What is only there to be rolled back
// to is no user, nor are our own workloads.
func (u *uninstaller) users(ctx context.Context, state *switchover.State) ([]string, error) {
	names := slices.DeleteFunc(state.Desired.Layout.Names(), func(n layout.Name) bool {
		return n == state.Target.Name() || n == layout.NameOf(state.Target.Upstream)
	})
	var found []string
	note := func(o client.Object, spec *corev1.PodSpec) {
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			if _, _, ok := layout.MatchName(names, c.Image); ok && !isLeaving(o) {
				found = append(found, u.kindOf(o)+" "+nameOf(o))
				return
			}
		}
	}
	for _, list := range []client.ObjectList{
		&appsv1.DeploymentList{}, &appsv1.DaemonSetList{}, &appsv1.StatefulSetList{}, &batchv1.CronJobList{}, &corev1.PodList{},
	} {
		if err := u.client.List(ctx, list); err != nil {
			return nil, fmt.Errorf("look who needs the layout: %w", err)
		}
		if pods, ok := list.(*corev1.PodList); ok {
			for i := range pods.Items {
				if p := pods.Items[i].Status.Phase; p != corev1.PodSucceeded && p != corev1.PodFailed {
					note(&pods.Items[i], &pods.Items[i].Spec)
				}
			}
		}
		eachTemplate(list, func(o client.Object, t *corev1.PodTemplateSpec) { note(o, &t.Spec) })
	}
	if len(found) > 10 {
		found = append(found[:10:10], fmt.Sprintf("and %d more", len(found)-10))
	}
	return found, nil
}

// isLeaving reports whether an object is one of the module's that is about to
// go, or is this very program.
func isLeaving(o client.Object) bool {
	if o.GetNamespace() != v1alpha1.Namespace {
		return false
	}
	app := o.GetLabels()[labelApp]
	return slices.Contains([]string{v1alpha1.DeploymentController, v1alpha1.DeploymentProxy, v1alpha1.DaemonSetAgent, v1alpha1.PodUninstall}, app)
}
