package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeGroupConfiguration is a bash script that runs as root on the nodes of
// some groups, in the order of weights, again whenever it changes. Deleting it
// undoes nothing.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ngc
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.spec.weight`
// +kubebuilder:printcolumn:name="NodeGroups",type=string,JSONPath=`.spec.nodeGroups`
// +kubebuilder:printcolumn:name="Bundle",type=string,JSONPath=`.spec.bundles`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.failed`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.message`
type NodeGroupConfiguration struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec NodeGroupConfigurationSpec `json:"spec"`
	// +optional
	Status NodeGroupConfigurationStatus `json:"status,omitzero"`
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

// NodeGroupConfigurationStatus sums up what nodes report in status.scripts of
// their RegistryNodes.
type NodeGroupConfigurationStatus struct {
	// ObservedGeneration is the generation that the rest is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Nodes is on how many nodes it is done, of how many that it concerns: "2/3".
	// +optional
	Nodes string `json:"nodes,omitempty"`
	// Failed is on how many nodes it failed last; there it is tried again.
	// +optional
	Failed int32 `json:"failed"`
	// Message names the nodes on which it is not done.
	// +optional
	Message string `json:"message,omitempty"`
}

// NodeGroupConfigurationList is a list of NodeGroupConfiguration.
//
// +kubebuilder:object:root=true
type NodeGroupConfigurationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeGroupConfiguration `json:"items"`
}
