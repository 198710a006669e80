package controller

import (
	"context"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

func isStoreSet(d *appsv1.DaemonSet) bool {
	return slices.Contains(v1alpha1.DaemonSetsOfStores(), d.Name)
}

// storeSets does what is to be done for the DaemonSets of stores, whose pods are simStores'. One
// that is deleted ends at once.
func (s *simulator) storeSets(ctx context.Context) error {
	var list appsv1.DaemonSetList
	if err := s.c.List(ctx, &list, client.InNamespace(v1alpha1.Namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		d := &list.Items[i]
		var err error
		switch {
		case !isStoreSet(d):
		case d.DeletionTimestamp != nil:
			d.Finalizers = nil
			err = s.c.Update(ctx, d)
		case d.Status.ObservedGeneration != d.Generation:
			d.Status.ObservedGeneration = d.Generation
			err = s.c.Status().Update(ctx, d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storeVersion is that of the DaemonSet of a node's store; empty without one.
func (c *testbed) storeVersion(ctx context.Context, node string) string {
	var sets appsv1.DaemonSetList
	if err := c.List(ctx, &sets, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{v1alpha1.LabelApp: v1alpha1.PodStore}); err != nil {
		return err.Error()
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		if a := set.Spec.Template.Spec.Affinity; strings.Contains(a.String(), node) {
			return set.Spec.Template.Annotations[v1alpha1.AnnotationConfigVersion]
		}
	}
	return ""
}
