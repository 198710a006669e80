package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RegistryNode is one node as the registry module sees it. The controller
// creates it, owned by the Node of the same name, and writes the spec; the
// node's agent writes the status and nothing else.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=rnode
// +kubebuilder:printcolumn:name="Serving",type=integer,JSONPath=`.status.generation`
// +kubebuilder:printcolumn:name="Preflight",type=string,JSONPath=`.status.preflight`
// +kubebuilder:printcolumn:name="Containerd",type=string,JSONPath=`.status.containerd.version`
// +kubebuilder:printcolumn:name="Agent",type=string,priority=1,JSONPath=`.status.agentVersion`
// +kubebuilder:printcolumn:name="Legacy",type=boolean,priority=1,JSONPath=`.status.legacy`
// +kubebuilder:printcolumn:name="Directory",type=string,priority=1,JSONPath=`.status.containerd.effectiveDirectory`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RegistryNode struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   RegistryNodeSpec   `json:"spec,omitempty"`
	Status RegistryNodeStatus `json:"status,omitempty"`
}

// RegistryNodeSpec is what the controller asks of the node.
type RegistryNodeSpec struct {
	// Generation is that of the order in legacy: newer than any layout that a
	// node which was away may still have. Without that order it is absent; which
	// layout is published is said in Secret registry-bashible-config alone.
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// NodeGroup is the value of the Node's label node.deckhouse.io/group.
	// +optional
	NodeGroup string `json:"nodeGroup,omitempty"`
	// Legacy orders the node back to the legacy containerd format. The agent
	// obeys only while its last good layout is Unmanaged too.
	// +optional
	Legacy bool `json:"legacy,omitempty"`
	// ApprovedRestart is the ID of the one restart of containerd that the node
	// may do now: that in status.restart.id. An approval for another ID means
	// nothing.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ApprovedRestart string `json:"approvedRestart,omitempty"`
	// Leave says that the module is being uninstalled: the agent removes what it
	// keeps on the node and does nothing more. It obeys only on a node that has
	// no layout and nothing of ours in containerd's configuration.
	// +optional
	Leave bool `json:"leave,omitempty"`
	// Store is the store that the node is to run. Absent, it is to run none.
	// +optional
	Store *StoreSpec `json:"store,omitempty"`
}

// StoreSpec is a store on a node, as far as only a new process takes it over. What it
// serves by is in Secret registry-store.
type StoreSpec struct {
	// Image is the module's image, at an address where this node can pull it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Image string `json:"image"`
	// Version is what the controller calls this configuration.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`
	// Approved is the version that the node may run now. While it is another one than
	// version, what runs goes on: stores are replaced one after the other.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Approved string `json:"approved,omitempty"`
	// Port is where clients and other stores come, on the node's own address.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// Path is the folder of the node in which images are kept.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Path string `json:"path"`
	// Quota is what may be kept, and Floor what is left free on the disk, in bytes; absent,
	// they follow from the size of the disk.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Quota int64 `json:"quota,omitempty"`
	// +optional
	// +kubebuilder:validation:Minimum=0
	Floor int64 `json:"floor,omitempty"`
	// TTL is how long something is kept after its last use, as 168h; absent, a week.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TTL string `json:"ttl,omitempty"`
	// Addresses are the node's own, of its Node object. The store listens on the first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=64
	Addresses []string `json:"addresses,omitempty"`
	// Certificate is what was signed for the key of status.store.request, PEM, with its
	// chain.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Certificate string `json:"certificate,omitempty"`
	// DaemonSet says that a DaemonSet runs the store, or still does: the node keeps its
	// files and writes no static pod.
	// +optional
	DaemonSet bool `json:"daemonSet,omitempty"`
	// PullSecret says that the kubelet gives the image to no pod without a pull secret, which a
	// static pod cannot name: it is to run by a DaemonSet, though the kubelet takes static pods.
	// +optional
	PullSecret bool `json:"pullSecret,omitempty"`
}

// Sizes that the API server takes of a report, in characters, and of its lists. It
// refuses the whole report if one of them is larger.
const (
	MostMessage  = 8192
	MostWarning  = 2048
	MostPath     = 4096 // a path, an image, a registry, a name that is routed
	MostID       = 64
	MostWord     = 256 // any other text
	MostWarnings = 20
	MostItems    = 1000 // of any other list
)

// RegistryNodeStatus is the agent's report. It is about what the node's own
// containerd was seen doing, not about what was written.
type RegistryNodeStatus struct {
	// Generation is the highest layout generation proved on this node.
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// Ahead is the generation that the node serves while a lower one is published, or
	// another layout of the same generation, as after a restore from a backup; absent
	// otherwise. It may not be proved.
	// +optional
	Ahead int64 `json:"ahead,omitempty"`
	// Served is the generation that the node's containerd was seen to be led by, if it
	// is not proved because its target has not answered yet; absent otherwise. Pods may
	// run: the target may be one of them.
	// +optional
	Served int64 `json:"served,omitempty"`
	// Version is the hash of the proved layout, as in the Node's annotation
	// registry.deckhouse.io/version.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`
	// NodeUID and BootID are those of the node when the report was made. The
	// report counts only while they equal those of the Node object.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	NodeUID string `json:"nodeUID,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=256
	BootID string `json:"bootID,omitempty"`
	// AgentVersion is the version of the agent that reports.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	AgentVersion string `json:"agentVersion,omitempty"`
	// AgentPod is the UID of the Pod that the agent reports from: a report stays
	// when its Pod goes, and this tells whether the Pod's successor has spoken.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	AgentPod string `json:"agentPod,omitempty"`
	// LayoutSchema is the highest schema of a layout that the agent reads; 0 is 1. It
	// is published in a higher one only if all agents and proxies read that.
	// +optional
	LayoutSchema int `json:"layoutSchema,omitempty"`
	// Preflight says whether containerd's configuration leaves room for ours.
	// +kubebuilder:validation:Enum=Ready;Custom;Unsupported
	// +optional
	Preflight string `json:"preflight,omitempty"`
	// +optional
	Containerd ContainerdStatus `json:"containerd,omitempty"`
	// Legacy is true when the node has no entry of ours in containerd's host
	// directory.
	// +optional
	Legacy bool `json:"legacy,omitempty"`
	// Left is true when the agent, as spec.leave asked, has removed its own
	// folder from the node.
	// +optional
	Left bool `json:"left,omitempty"`
	// Redirects are the names whose redirect to the agent was proved, or not.
	// +listType=map
	// +listMapKey=name
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	Redirects []RedirectStatus `json:"redirects,omitempty"`
	// Upstreams are the registries of the layout as reached from this node.
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	Upstreams []UpstreamStatus `json:"upstreams,omitempty"`
	// Restart is the restart of containerd that the node needs before it can go
	// on; absent when it needs none.
	// +optional
	Restart *RestartStatus `json:"restart,omitempty"`
	// Scripts are the NodeGroupConfigurations that concern this node, in the
	// order in which they run.
	// +listType=map
	// +listMapKey=name
	// +optional
	// +kubebuilder:validation:MaxItems=1000
	Scripts []ScriptStatus `json:"scripts,omitempty"`
	// Store is the store of this node; absent if it is to run none, and none is left.
	// +optional
	Store *StoreStatus `json:"store,omitempty"`
	// Warnings are things that work now and may hurt later, a sentence each.
	// +optional
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=2048
	Warnings []string `json:"warnings,omitempty"`
	// Message says what the node waits for or what is wrong; empty when the
	// node serves the published layout.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Message string `json:"message,omitempty"`
}

// ContainerdStatus is what the agent found of the node's containerd.
type ContainerdStatus struct {
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`
	// SourceDirectory is where users and scripts write host directories.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	SourceDirectory string `json:"sourceDirectory,omitempty"`
	// EffectiveDirectory is where this containerd really reads them.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	EffectiveDirectory string `json:"effectiveDirectory,omitempty"`
	// ConfigFile is containerd's main configuration file.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	ConfigFile string `json:"configFile,omitempty"`
	// SandboxImage is the image of every pod's sandbox, which the kubelet never
	// names.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	SandboxImage string `json:"sandboxImage,omitempty"`
}

// Phases of a restart of containerd.
const (
	RestartWaiting = "Waiting" // for spec.approvedRestart
	RestartRunning = "Running" // approved and under way
	RestartFailed  = "Failed"  // undone; the node is as before
)

// RestartStatus is one change of containerd's main configuration with the
// restart that makes it take effect.
type RestartStatus struct {
	// ID names this change on this node: what an approval is for.
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id"`
	// +kubebuilder:validation:Enum=Waiting;Running;Failed
	Phase string `json:"phase"`
	// Message says what changes and why, or what failed and what was undone.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Message string `json:"message,omitempty"`
}

// Phases of a script on a node.
const (
	ScriptPending = "Pending" // an earlier one in the order is not done
	ScriptRunning = "Running"
	ScriptDone    = "Done"
	ScriptFailed  = "Failed" // it is tried again
)

// ScriptStatus is one NodeGroupConfiguration on one node.
type ScriptStatus struct {
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name"`
	// Generation is that of the NodeGroupConfiguration that the phase is about.
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// +kubebuilder:validation:Enum=Pending;Running;Done;Failed
	Phase string `json:"phase"`
	// Message says how it failed; never what the script printed.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Message string `json:"message,omitempty"`
}

// States of a store on a node.
const (
	StoreNothing = "Nothing" // none runs, and none is about to
	StoreWaiting = "Waiting" // for its certificate, approval, the kubelet or the process
	StoreServing = "Serving" // the version that runs was seen serving
	StoreFailing = "Failing" // it does not get on by itself
)

// StoreStatus is the store of a node, as the node's agent sees it.
type StoreStatus struct {
	// Endpoint is where it serves: IP and port.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Endpoint string `json:"endpoint,omitempty"`
	// Request asks for a certificate for the key, which stays on the node, PEM. What is
	// signed is decided by the controller.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Request string `json:"request,omitempty"`
	// Version is that of the pod on the node that was seen serving.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Version string `json:"version,omitempty"`
	// State is in every report. It is not required, so that what somebody else wrote into this
	// status keeps no agent from reporting.
	// +optional
	// +kubebuilder:validation:Enum=Nothing;Waiting;Serving;Failing
	State string `json:"state,omitempty"`
	// DaemonSet says that the kubelet takes no static pods, or not this one, and that the files
	// of the store are there: a DaemonSet is to run it.
	// +optional
	DaemonSet bool `json:"daemonSet,omitempty"`
	// Generation is that of the layout that it serves.
	// +optional
	Generation int64 `json:"generation,omitempty"`
	// Cached is how many of the images in use, by digest, it has of those that it is to
	// have, which are Wanted.
	// +optional
	Cached int64 `json:"cached,omitempty"`
	// +optional
	Wanted int64 `json:"wanted,omitempty"`
	// Identity stands for the users and the certificate that it serves by.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Identity string `json:"identity,omitempty"`
	// LastUse is when a client that is no node came last, to the minute and by the node's clock;
	// LastClients who came lately, comma-separated.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastUse string `json:"lastUse,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=256
	LastClients string `json:"lastClients,omitempty"`
	// OldUse is the last use of each password that is being replaced, by user, comma-separated.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	OldUse string `json:"oldUse,omitempty"`
	// Message says what it waits for or what is wrong; empty when all is well.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Message string `json:"message,omitempty"`
}

// RedirectStatus is the proof that containerd asks the agent for a name.
type RedirectStatus struct {
	// +kubebuilder:validation:MaxLength=4096
	Name   string `json:"name"`
	Proved bool   `json:"proved"`
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Message string `json:"message,omitempty"`
}

// UpstreamStatus is whether a registry answered from this node.
type UpstreamStatus struct {
	// Registry is scheme, host and path; never credentials.
	// +kubebuilder:validation:MaxLength=4096
	Registry string `json:"registry"`
	Reached  bool   `json:"reached"`
	// Failing says that pulls from it fail: all for at least a minute, whatever it
	// answers otherwise, or because it refuses us. It is seen of the target only.
	// +optional
	Failing bool `json:"failing,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	Message string `json:"message,omitempty"`
}

// RegistryNodeList is a list of RegistryNode.
//
// +kubebuilder:object:root=true
type RegistryNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []RegistryNode `json:"items"`
}
