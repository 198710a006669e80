// Package v1alpha1 holds the platform's own resources as far as the module
// needs them: ModuleConfig (what users write), Module (what they read) and
// NodeGroupConfiguration (scripts for nodes).
//
// On a cluster that has these definitions already ours are not installed, so
// that nothing here may assume more than the fields it names. Start at
// ModuleConfig.
//
// +kubebuilder:object:generate=true
// +groupName=deckhouse.io
package v1alpha1
