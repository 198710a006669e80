package uninstall

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
)

// pullSecretUsers are the objects that pull with Secret deckhouse-registry, by
// namespace.
func (u *uninstaller) pullSecretUsers(ctx context.Context) (map[string][]string, error) {
	found := map[string][]string{}
	err := u.eachUser(ctx, func(o client.Object) {
		if excerpt.PullsWith(pullSecrets(o), v1alpha1.SecretRegistry) {
			found[o.GetNamespace()] = append(found[o.GetNamespace()], u.describe(o))
		}
	}, &corev1.PodList{}, &corev1.ServiceAccountList{}, &appsv1.DeploymentList{}, &appsv1.DaemonSetList{}, &appsv1.StatefulSetList{},
		&batchv1.JobList{}, &batchv1.CronJobList{})
	if err != nil {
		return nil, fmt.Errorf("look who pulls with Secret %s: %w", v1alpha1.SecretRegistry, err)
	}
	return found, nil
}

// pullSecrets are those of a ServiceAccount, a pod or a pod template.
func pullSecrets(o client.Object) []corev1.LocalObjectReference {
	switch o := o.(type) {
	case *corev1.ServiceAccount:
		return o.ImagePullSecrets
	case *corev1.Pod:
		return o.Spec.ImagePullSecrets
	case *batchv1.Job:
		return o.Spec.Template.Spec.ImagePullSecrets
	}
	if w := cluster.WorkloadOf(o); w.Template != nil {
		return w.Template.Spec.ImagePullSecrets
	}
	return nil
}

// eachUser calls visit for each object of these lists, but not for pods that
// have ended, nor for what goes with the module.
func (u *uninstaller) eachUser(ctx context.Context, visit func(client.Object), lists ...client.ObjectList) error {
	for _, list := range lists {
		if err := u.client.List(ctx, list); err != nil {
			return err //nolint:wrapcheck // the callers say what for
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			o, ok := item.(client.Object)
			if !ok {
				return fmt.Errorf("%T is no object", item)
			}
			if pod, ok := o.(*corev1.Pod); ok && excerpt.PodEnded(pod) || goesToo(o) {
				return nil
			}
			visit(o)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read %T: %w", list, err)
		}
	}
	return nil
}

// goesToo reports whether an object belongs to one of the module's own
// workloads, or is the Pod of this program: none of them is there afterwards.
func goesToo(o client.Object) bool {
	if o.GetNamespace() != v1alpha1.Namespace {
		return false
	}
	app := o.GetLabels()[v1alpha1.LabelApp]
	return slices.Contains([]string{v1alpha1.DeploymentController, v1alpha1.DeploymentProxy, v1alpha1.DaemonSetAgent, v1alpha1.PodStore, v1alpha1.PodUninstall}, app)
}
