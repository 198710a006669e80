package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ModuleConfig is the one object that users edit. The registry is configured
// in ModuleConfig "deckhouse", section spec.settings.registry; the module is
// enabled and disabled in ModuleConfig "registry".
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mc
// +kubebuilder:printcolumn:name="Enabled",type=boolean,JSONPath=`.spec.enabled`
// +kubebuilder:printcolumn:name="Version",type=integer,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
type ModuleConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ModuleConfigSpec   `json:"spec"`
	Status ModuleConfigStatus `json:"status,omitempty"`
}

// ModuleConfigSpec is what a user wants of one module.
type ModuleConfigSpec struct {
	// Version is that of the settings' schema, 1.
	// +optional
	Version int `json:"version,omitempty"`
	// Enabled is nil where the user leaves it to the platform.
	// +optional
	Enabled *bool `json:"enabled,omitempty"`
	// Settings are the module's own. What they may be is said by admission
	// policies, which see into unknown fields; a schema here could not.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Settings *apiextensionsv1.JSON `json:"settings,omitempty"`
	// Source is the ModuleSource that the module comes from.
	// +optional
	Source string `json:"source,omitempty"`
	// UpdatePolicy is the ModuleUpdatePolicy that the module follows.
	// +optional
	UpdatePolicy string `json:"updatePolicy,omitempty"`
	// Maintenance, when set, tells the platform to leave the module's objects
	// as they are.
	// +kubebuilder:validation:Enum=NoResourceReconciliation
	// +optional
	Maintenance string `json:"maintenance,omitempty"`
}

// ModuleConfigStatus is the platform's answer.
type ModuleConfigStatus struct {
	// +optional
	Version string `json:"version,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

// ModuleConfigList is a list of ModuleConfig.
//
// +kubebuilder:object:root=true
type ModuleConfigList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModuleConfig `json:"items"`
}
