package v1alpha1

import (
	"fmt"
	"time"
)

// The namespace and the objects in it. Users and platform components know them by
// name.
const (
	Namespace = "d8-system"

	SecretState    = "registry-state"
	SecretLayout   = "registry-bashible-config"
	SecretRegistry = "deckhouse-registry"
	// SecretPKI holds the CA that in-cluster clients trust. Its key is in
	// SecretState as well: the PKI is part of the state.
	SecretPKI = "registry-pki"
	// SecretBootstrap is the image pull secret of our own workloads.
	SecretBootstrap = "registry-bootstrap"
	// SecretProxy is the one Secret that the in-cluster proxy reads: its layout, users and leaf.
	SecretProxy = "registry-incluster-proxy-config"
	// SecretStore is what stores serve by. The agents of nodes with a store read it.
	SecretStore = "registry-store"
	// RoleStore is the Role to read that, and its RoleBinding.
	RoleStore = "registry-agent-store"
	// SecretAgent is the one Secret that agents read: layout key of SecretLayout.
	SecretAgent = SecretLayout

	ServiceRegistry      = "registry"
	DeploymentProxy      = "registry-incluster-proxy"
	DeploymentController = "registry-controller"
	DaemonSetAgent       = "registry-agent"
	// PodStore is the static pod of a store on a node, and the label of each pod of a store;
	// see DaemonSetsOfStores.
	PodStore            = "registry-nodeservices"
	DeploymentDeckhouse = "deckhouse"
	// PodUninstall takes the module out of the cluster: the chart's hook.
	PodUninstall          = "registry-uninstall"
	ConfigMapImageAddress = "registry-image-address"
	ModuleName            = "registry"
	ModuleWeight          = 38
	ModuleConfigName      = "deckhouse"
)

// PathAlive is where the agent's serving half answers the kubelet on loopback.
const PathAlive = "/healthz"

// The heartbeat of an agent is a Lease in Namespace, with LabelApp DaemonSetAgent. The
// agent renews it about every HeartbeatEvery. If the controller has seen no change
// for SilentAfter, the agent is silent.
const (
	HeartbeatEvery = time.Minute
	SilentAfter    = 3 * time.Minute
)

// LeaseOfAgent is the name of a node's Lease.
func LeaseOfAgent(node string) string { return DaemonSetAgent + "-" + node }

// MostStores is how many stores a layout may name, and so how many there are.
const MostStores = 9

// DaemonSetsOfStores are the names of the DaemonSets that run stores where a kubelet takes
// no static pods, one for each node: numbers, so that rights can name them.
func DaemonSetsOfStores() []string {
	names := make([]string, MostStores)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", PodStore, i+1)
	}
	return names
}

// Keys of Secrets that more than one program reads. Those of deckhouse-registry
// are the platform's, see package pullsecret.
const (
	// KeyLayout of SecretLayout holds the layout of the agents.
	KeyLayout = "config"
	// KeyProxyLayout and KeyProxyUsers of SecretProxy hold the layout and the
	// users of the in-cluster proxy.
	KeyProxyLayout = "layout"
	KeyProxyUsers  = "users"
	// Keys of SecretStore beside those two: what is never evicted, the other stores, as a
	// JSON list of addresses and ports, and the CA by which stores and clients know them.
	KeyStorePins      = "pins"
	KeyStoreEndpoints = "stores-endpoints"
	KeyStoreCA        = "ca.crt"
)

// Labels, annotations and taints.
const (
	// AnnotationVersion on Nodes, proxy pods and the proxy's Deployment is the
	// hash of the layout that is served.
	AnnotationVersion = "registry.deckhouse.io/version"
	// AnnotationGeneration on proxy pods is the generation that is served.
	AnnotationGeneration = "registry.deckhouse.io/generation"
	// AnnotationLastUse on proxy pods is when an in-cluster client last used the
	// proxy, in RFC 3339; AnnotationLastClient the addresses of the last ones,
	// separated by commas; AnnotationMessage what is wrong with SecretProxy,
	// absent when nothing is.
	AnnotationLastUse    = "registry.deckhouse.io/last-use"
	AnnotationLastClient = "registry.deckhouse.io/last-client"
	AnnotationMessage    = "registry.deckhouse.io/message"
	// AnnotationTargetFails on proxy pods is the target and why all pulls from it have
	// failed for a while, absent when they have not: "https://host/path: why".
	AnnotationTargetFails = "registry.deckhouse.io/target-fails"
	// AnnotationIdentity on proxy pods stands for the users and the certificate that are
	// in use. AnnotationOldUse is the last use of a password that is being replaced, by
	// user: "ro 2026-12-01T12:00:00Z 10.0.0.3", separated by commas.
	AnnotationIdentity = "registry.deckhouse.io/identity"
	AnnotationOldUse   = "registry.deckhouse.io/last-use-of-old"
	// AnnotationRotate on SecretPKI, or on the Secret of a user of the in-cluster proxy,
	// with a value that it did not have, is the operator's order to replace what it
	// shows.
	AnnotationRotate = "registry.deckhouse.io/rotate"
	// AnnotationLayoutSchema on proxy pods is the highest schema of a layout that the
	// proxy reads, absent for 1.
	AnnotationLayoutSchema = "registry.deckhouse.io/layout-schema"
	// AnnotationRevision on the pod templates of agent and proxy says which
	// version of the module made them, whatever registry their image is from.
	AnnotationRevision = "registry.deckhouse.io/revision"
	// AnnotationExclude on a Node is the operator's word that the barrier goes
	// without it.
	AnnotationExclude = "registry.deckhouse.io/exclude"
	// AnnotationRepoint on a workload, with "false", opts out of re-pointing.
	AnnotationRepoint = "registry.deckhouse.io/repoint"
	// AnnotationIgnore on an object or on its Namespace, with "true", is the
	// operator's word that no switch waits for the images that it refers to.
	AnnotationIgnore = "registry.deckhouse.io/ignore"
	// AnnotationRepointed on a workload is the number of the switch that
	// re-pointed it last, AnnotationAvailable how many of its pods were
	// available before that.
	AnnotationRepointed = "registry.deckhouse.io/repointed"
	AnnotationAvailable = "registry.deckhouse.io/available-before"
	// AnnotationConfigHash on SecretState repeats its key hash. On the pod of a store it is
	// the hash of what only a new process takes over, and AnnotationConfigVersion the version
	// that the controller gave that.
	AnnotationConfigHash    = "registry.deckhouse.io/config-hash"
	AnnotationConfigVersion = "registry.deckhouse.io/config-version"
	// AnnotationHosts on a pull secret lists the hosts whose entries are ours;
	// others are the user's and stay.
	AnnotationHosts = "registry.deckhouse.io/hosts"
	// AnnotationCredentials on SecretRegistry, with CredentialsProvided, says that its
	// credentials come from a credential provider and are renewed by the controller, also
	// while the Secret is the user's. Who takes it away takes them over.
	AnnotationCredentials = "registry.deckhouse.io/credentials"
	CredentialsProvided   = "provided"
	// AnnotationRegistryChecksum on the pod template of Deployment
	// d8-system/deckhouse makes it restart with the registry. On Secret
	// deckhouse-registry it says for which registry and switch we wrote it last.
	AnnotationRegistryChecksum = "checksum/registry-version"
	// AnnotationMadeBy with MadeByChart marks what the chart made because it was
	// not there, and what an uninstallation may therefore take away.
	AnnotationMadeBy = "registry.deckhouse.io/made-by"
	MadeByChart      = "chart"
	// LabelDaemonSet on the pods of DaemonSetsOfStores is the name of theirs: all else of
	// their labels is the same.
	LabelDaemonSet = "registry.deckhouse.io/daemonset"
	// LabelStore on a Node has it run a store in mode Proxy, as nodes of the control plane do.
	LabelStore = "registry.deckhouse.io/store"
	// LabelRequiredImages on a ConfigMap, with "true", adds its
	// images_digests.json to the image check.
	LabelRequiredImages = "registry.deckhouse.io/required-images"
	// LabelContainerdConfig on a Node is "default" or "custom".
	LabelContainerdConfig = "node.deckhouse.io/containerd-config-registry"
	// LabelAgent on a Node, with "false", keeps the agent away.
	LabelAgent     = "registry.deckhouse.io/agent"
	LabelNodeGroup = "node.deckhouse.io/group"
	// LabelApp tells the objects of our own workloads apart.
	LabelApp = "app"
	// LabelComponent and LabelType are by what Service registry knows the pods behind it.
	LabelComponent   = "component"
	ComponentService = "registry-service"
	LabelType        = "type"
	TypeProxy        = "incluster-proxy"
	TypeStore        = "node-services"
	// LabelManagedBy with ManagedBy marks every object that is ours.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "registry-controller"
	// LabelHeritage with Heritage marks what is the platform's: by default its
	// namespaces.
	LabelHeritage = "heritage"
	Heritage      = "deckhouse"

	// TaintNotConverged keeps pods off a node that has not proved that it can
	// pull what any pod may need. With value TaintJoining the controller saw the
	// node come: it has never served anything, and no switch waits for it.
	TaintNotConverged = "registry.deckhouse.io/not-converged"
	TaintJoining      = "joining"
)

// Conditions, in the order of the plans; Ready is always last.
const (
	ConditionImages        = "RegistryContainsRequiredImages"
	ConditionPreflight     = "ContainerdConfigPreflightReady"
	ConditionStores        = "NodeServicesReady"
	ConditionTransition    = "TransitionContainerdConfigReady"
	ConditionProxy         = "InClusterProxyReady"
	ConditionSwitch        = "DeckhouseRegistrySwitchReady"
	ConditionFinal         = "FinalContainerdConfigReady"
	ConditionCleanup       = "CleanupInClusterProxy"
	ConditionCleanupStores = "CleanupNodeServices"
	// ConditionNotSupported is True as long as what is asked for is refused.
	ConditionNotSupported = "ErrTransitionNotSupported"
	ConditionReady        = "Ready"

	ReasonReady      = "Ready"
	ReasonProcessing = "Processing"
	ReasonError      = "Error" // of ConditionNotSupported
	// ReasonTargetFails of Ready: the switch has ended, and pulls fail.
	ReasonTargetFails = "TargetFails"
)
