package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group and Version are those of every kind in this package.
const (
	Group   = "deckhouse.io"
	Version = "v1alpha1"
)

// GroupVersion is Group and Version as client libraries want them.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: Group, Version: Version}
}

// AddToScheme makes the kinds of this package known to a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(),
		&ModuleConfig{}, &ModuleConfigList{},
		&Module{}, &ModuleList{},
		&NodeGroupConfiguration{}, &NodeGroupConfigurationList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
