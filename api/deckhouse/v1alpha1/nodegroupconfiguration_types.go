package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeGroupConfiguration is a bash script that runs as root on the nodes of
// some groups, in the order of weights, again whenever it changes. Deleting it
// undoes nothing.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=ngc
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.spec.weight`
// +kubebuilder:printcolumn:name="NodeGroups",type=string,JSONPath=`.spec.nodeGroups`
// +kubebuilder:printcolumn:name="Bundle",type=string,JSONPath=`.spec.bundles`
type NodeGroupConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NodeGroupConfigurationSpec `json:"spec"`
}

// NodeGroupConfigurationSpec is the script, and where and when it runs.
type NodeGroupConfigurationSpec struct {
	// Content is the script.
	// +kubebuilder:validation:MinLength=1
	Content string `json:"content"`
	// Weight orders scripts: lower ones run first.
	// +kubebuilder:default=100
	// +optional
	Weight int32 `json:"weight"`
	// NodeGroups are the groups whose nodes run it, '*' for all.
	// +kubebuilder:validation:MinItems=1
	NodeGroups []string `json:"nodeGroups"`
	// Bundles are the operating systems it is for, '*' for all.
	// +kubebuilder:validation:MinItems=1
	Bundles []string `json:"bundles"`
}

// NodeGroupConfigurationList is a list of NodeGroupConfiguration.
//
// +kubebuilder:object:root=true
type NodeGroupConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeGroupConfiguration `json:"items"`
}
