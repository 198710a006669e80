package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Module is one module of the platform as users read it:
// `kubectl get module registry -o wide`.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Weight",type=integer,priority=1,JSONPath=`.properties.weight`
// +kubebuilder:printcolumn:name="Stage",type=string,JSONPath=`.properties.stage`
// +kubebuilder:printcolumn:name="Release channel",type=string,priority=1,JSONPath=`.properties.releaseChannel`
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.properties.source`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.properties.version`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Enabled",type=string,JSONPath=`.status.conditions[?(@.type=='EnabledByModuleManager')].status`
// +kubebuilder:printcolumn:name="Disabled Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=='EnabledByModuleManager')].message`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=='IsReady')].status`
type Module struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Properties ModuleProperties `json:"properties,omitempty"`
	// +optional
	Status ModuleStatus `json:"status,omitempty"`
}

// ModuleProperties describe the module; users do not set them.
type ModuleProperties struct {
	// Weight orders modules: lower ones start first.
	// +optional
	Weight int32 `json:"weight,omitempty"`
	// Source is where the module comes from, "Embedded" for ours.
	// +optional
	Source string `json:"source,omitempty"`
	// +optional
	Stage string `json:"stage,omitempty"`
	// +optional
	ReleaseChannel string `json:"releaseChannel,omitempty"`
	// +optional
	Version string `json:"version,omitempty"`
	// +optional
	Critical bool `json:"critical,omitempty"`
	// Namespace is where the module's objects are.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// +optional
	Requirements *ModuleRequirements `json:"requirements,omitempty"`
	// +optional
	DisableOptions *ModuleDisableOptions `json:"disableOptions,omitempty"`
	// Accessibility says in which editions and bundles the module is on.
	// +kubebuilder:validation:Type=object
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Accessibility *apiextensionsv1.JSON `json:"accessibility,omitempty"`
}

// ModuleRequirements are version constraints, as semver ranges.
type ModuleRequirements struct {
	// +optional
	Bootstrapped string `json:"bootstrapped,omitempty"`
	// +optional
	Deckhouse string `json:"deckhouse,omitempty"`
	// +optional
	Kubernetes string `json:"kubernetes,omitempty"`
	// Modules are required modules by name.
	// +optional
	Modules map[string]string `json:"modules,omitempty"`
}

// ModuleDisableOptions say what must be confirmed before disabling.
type ModuleDisableOptions struct {
	// +optional
	Confirmation bool `json:"confirmation,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
}

// ModulePhase is the module's state in one word.
//
// +kubebuilder:validation:Enum=Unavailable;Available;Downloading;DownloadingError;Reconciling;Installing;HooksDisabled;WaitSyncTasks;Downloaded;Conflict;Ready;Error
type ModulePhase string

// The phases that we set; the platform knows more.
const (
	// PhaseAvailable: the module is there and disabled.
	PhaseAvailable ModulePhase = "Available"
	// PhaseReconciling: a switch is under way.
	PhaseReconciling ModulePhase = "Reconciling"
	// PhaseReady: what the user asks for is reached.
	PhaseReady ModulePhase = "Ready"
	// PhaseError: nothing moves until somebody acts.
	PhaseError ModulePhase = "Error"
)

// The conditions behind the columns ENABLED (with DISABLED MESSAGE) and READY.
const (
	ConditionEnabledByModuleManager = "EnabledByModuleManager"
	ConditionIsReady                = "IsReady"
)

// ModuleStatus is how the module is.
type ModuleStatus struct {
	// +optional
	Phase ModulePhase `json:"phase,omitempty"`
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []ModuleCondition `json:"conditions,omitempty"`
}

// ModuleCondition is one condition. It is not metav1.Condition: the platform
// writes conditions without a reason.
type ModuleCondition struct {
	Type string `json:"type"`
	// +kubebuilder:validation:Enum=True;False;Unknown
	Status metav1.ConditionStatus `json:"status"`
	// +optional
	Reason string `json:"reason,omitempty"`
	// +optional
	Message string `json:"message,omitempty"`
	// SettingsGeneration is metadata.generation of the ModuleConfig deckhouse that
	// IsReady speaks of. It is not called observedGeneration: kubectl compares that
	// with the Module's own, and would wait for ever.
	// +optional
	SettingsGeneration int64 `json:"settingsGeneration,omitempty"`
	// +optional
	LastProbeTime metav1.Time `json:"lastProbeTime,omitzero"`
	// +optional
	LastTransitionTime metav1.Time `json:"lastTransitionTime,omitzero"`
}

// ModuleList is a list of Module.
//
// +kubebuilder:object:root=true
type ModuleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Module `json:"items"`
}
