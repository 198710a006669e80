// Package v1alpha1 holds what the module itself adds to the API: RegistryNode,
// the report of one node, and the names of labels, annotations, objects and
// conditions that users meet.
//
// +kubebuilder:object:generate=true
// +groupName=registry.deckhouse.io
package v1alpha1
