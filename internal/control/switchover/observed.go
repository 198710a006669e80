package switchover

import (
	"time"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Observed is what the controller saw in one look at the cluster. Nothing in
// it is a decision. Progress (Proxy, Platform) was measured against the stored
// State.Desired: a step is done only by what a later pass observes than the one
// that asked for it.
type Observed struct {
	Now      time.Time
	Settings Settings
	Spec     Spec
	// Installation is the registry that Secret deckhouse-registry names, whoever
	// wrote it. Zero when the Secret is missing, malformed or names the fixed
	// address, which is never anyone's real registry; InstallationProblem then
	// says which. Advance reads it only while the Secret is the user's.
	Installation        upstream.Upstream
	InstallationProblem string
	// Published is the agents' layout as published, ProxyPublished that of the
	// in-cluster proxy, StorePublished that of the stores.
	Published      Published
	ProxyPublished Published
	StorePublished Published
	Nodes          []Node
	// Probe is an image that every registry must have, our own: what nodes and proxy
	// fetch from the target alone before they report.
	Probe string
	// Check is how far the check of Protocol.CheckRequest is.
	Check CheckReport
	// Compared is the comparison of tags that ended last. Nothing waits for it.
	Compared Comparison
	Census   Census
	Proxy    Proxy
	Store    Stores
	Platform Platform
}

// Settings are what the operator can set. Zero values are not defaults: use
// DefaultSettings.
type Settings struct {
	// NotReadyFor is how long a node must have been NotReady without a break
	// before a barrier may go without it.
	NotReadyFor time.Duration
	// ProxyIdle is how long no in-cluster client may have used the proxy
	// before Cleanup stops it, ProxyIdleMax how long Cleanup waits at most.
	ProxyIdle, ProxyIdleMax time.Duration
	// RecheckNames is how often names kept for the sake of references are
	// looked at again after Ready.
	RecheckNames time.Duration
	// RestartsAtOnce is how many nodes may restart containerd at a time, those
	// of the control plane being no more than one of them.
	RestartsAtOnce int
	// NoTaint leaves nodes that did not converge untainted. Nodes that join
	// then count from the start.
	NoTaint bool
}

// DefaultSettings are those of the documentation.
func DefaultSettings() Settings {
	return Settings{
		NotReadyFor:    60 * time.Second,
		ProxyIdle:      10 * time.Minute,
		ProxyIdleMax:   time.Hour,
		RecheckNames:   10 * time.Minute,
		RestartsAtOnce: 3,
	}
}

// Published is a role's layout as it lies in its Secret. The agents' is read from
// the API server itself: a lost state is rebuilt from it, and a cache that is
// behind would leave out credentials that are in use.
type Published struct {
	// Layout is meaningful only if Found and Problem is empty.
	Layout layout.Layout
	Found  bool
	// Problem says why the Secret's content cannot be read.
	Problem string
}

// Node is one Node object together with what its agent reported.
type Node struct {
	Name, UID, BootID string
	ControlPlane      bool
	Schedulable       bool
	Ready             bool
	// NotReadyFor is how long the controller itself has seen the node NotReady
	// without a break; 0 for a Ready node.
	NotReadyFor time.Duration
	// Agent is whether the agent DaemonSet wants a pod here. Only such nodes
	// can count.
	Agent bool
	// Unsupported says why the node can take no part ("container runtime
	// cri-o://1.30 is not containerd"); empty for others.
	Unsupported string
	// NoIPv6 is whether its containerd cannot read image references with an IPv6
	// address.
	NoIPv6 bool
	// Exclude is the operator's annotation registry.deckhouse.io/exclude.
	Exclude bool
	// ApprovedRestart is the ID of the restart that the node may do,
	// RegistryNode.spec.approvedRestart.
	ApprovedRestart string
	// Tainted is whether the node carries our not-converged taint, Joining whether
	// that says that the node joins.
	Tainted, Joining bool
	// New is whether the controller has just seen the node come, after a layout was
	// proved everywhere. What a controller finds when it starts is not new.
	New bool
	// Heard is when the controller itself saw the last sign of life of the agent; zero
	// if it knows of none. It is for messages only.
	Heard  time.Time
	Report Report
}

// Report is RegistryNode.status as far as a switch depends on it. The zero
// Report means that no agent of this node object ever reported.
type Report struct {
	// UID and BootID are those of the node when the report was made. A report
	// is valid only while they equal the Node's.
	UID, BootID string
	// Generation is the highest layout generation that the node was seen to
	// serve through its own containerd.
	Generation int64
	// Ahead is the generation that the node serves, proved or not, while a lower one
	// is published, or another layout of the same; 0 otherwise.
	Ahead int64
	// Served is the generation that the node serves through its own containerd while
	// the target has not answered; 0 otherwise. It is no proof, and pods may run.
	Served int64
	// Version is the hash of the proved layout, as shown to users.
	Version   string
	Preflight Preflight
	// Legacy is whether the node is back in the legacy containerd format, or
	// never left it.
	Legacy bool
	// Reads is the highest schema of a layout that the agent reads; 0 is 1.
	Reads int
	// Restart is the restart of containerd that the node needs.
	Restart Restart
	// Failing is the registry from which all pulls fail on the node, by its data path,
	// and FailsBy why; empty when none does.
	Failing, FailsBy string
	// Message says what the node waits for; empty when nothing.
	Message string
}

// Preflight is what the agent found in the node's containerd configuration.
type Preflight string

// The outcomes of a preflight. The empty one means that none was made yet.
const (
	PreflightReady       Preflight = "Ready"
	PreflightCustom      Preflight = "Custom"      // a registry section of the user's would clash
	PreflightUnsupported Preflight = "Unsupported" // not writable, or no containerd
)

// CheckReport is the state of the image check. It counts for a request only if
// Fingerprint equals the request's.
type CheckReport struct {
	Fingerprint string
	// Total is how many items there are, Done how many were found.
	Total, Done int
	// Failures are items that were not found, first five kept, with FailureCount in all.
	Failures     []CheckFailure
	FailureCount int
	// Problem is set when the registry as a whole refuses us: the error of the
	// first request, credentials and signed queries removed.
	Problem string
	// At is when the check ended; zero while it runs.
	At time.Time
	// OwnDiffers says how our own image differs from the one at the registry that the
	// cluster runs on, or that the new registry does not say it: nothing passes then.
	// OwnUnknown says why that is not known, because of the one that the cluster runs on.
	OwnDiffers, OwnUnknown string
}

// Comparison is of the tags of a check that has passed, with those of the registry
// that the cluster ran on.
type Comparison struct {
	Fingerprint string // of the check
	// Differing is how many tags have another digest there, First are the first ones.
	Differing int
	First     []string
}

// CheckFailure is one image that was not found.
type CheckFailure struct {
	Source string // who needs it: "deckhouse/containers/deckhouse", "module/prometheus/alertmanager"
	Image  string
	Error  string
}

// Census is every image reference in use under a known base.
type Census struct {
	// Live is whether it was made by LISTs of this pass, templates first, then
	// pods, and then Observed.Nodes. Final believes no other; Protocol.NeedsLive
	// says when to make one.
	Live bool
	// Problem says why the census is not complete; nothing shrinks then.
	Problem string
	// References are sorted by name, then by user.
	References []Reference
	// Required are the listed images of the platform's ConfigMaps
	// registry.deckhouse.io/required-images and our own, in the form of
	// CheckRequest.Images, sorted.
	Required []string
	// Lists is how many such ConfigMaps are elsewhere; they require nothing.
	Lists int
}

// Reference is one image somewhere in the cluster.
type Reference struct {
	// Name is the base that the image starts with, Image the rest: ":tag",
	// "alpha@sha256:..." or "alpha:tag".
	Name  layout.Name
	Image string
	// User says where: "Deployment d8-monitoring/prometheus", "Pod a/b".
	User string
	// Namespace is that of the user; empty for a node.
	Namespace string
	// Node is the node that says that it needs the image; empty for objects.
	Node string
	// Foreign marks a namespace that is not the platform's, Ignored what the
	// operator says to ignore. The name stays routed, and nothing waits for it.
	Foreign, Ignored bool
	// Movable is whether we may re-point it: a platform workload's template
	// that is ours to patch and has not opted out.
	Movable bool
	// OwnWorkload marks our own controller, proxy, agent and stores.
	OwnWorkload bool
	// Retained marks a revision from which nothing runs: it is there to be
	// rolled back to.
	Retained bool
}

// Proxy is the in-cluster proxy as observed.
type Proxy struct {
	Exists bool // Deployment or Service
	// Wanted is one per schedulable control-plane node, at least one; Ready is
	// how many serve at least Generation.
	Wanted, Ready int
	// Generation is the lowest layout generation that the ready ones loaded.
	Generation int64
	// Pulled is the layout generation at which an image was pulled through the
	// Service with the read-only user and the published CA.
	Pulled int64
	// Reads is the highest schema of a layout that all proxies which say anything
	// read; 0 when none says anything.
	Reads int
	// Message says what is missing in the words of a rollout; empty when nothing.
	Message string
	// Failing is how many of the ready ones say that all pulls from the target fail,
	// and FailsBy why.
	Failing int
	FailsBy string
	// Missing names control-plane nodes that are cordoned or lost and
	// therefore not waited for.
	Missing []string
	// Fallback is how nodes would reach it; zero until the Service has an IP.
	Fallback layout.Fallback
	// LastUse is when an in-cluster client was last seen using it, by the
	// controller's clock; Clients names the last ones.
	LastUse time.Time
	Clients []string
}

// Platform is how far Deckhouse and its components are with Desired.Registry,
// PullSecrets, Workloads and Own.
type Platform struct {
	// Target is the one that progress was measured against; a step ignores
	// progress towards another.
	Target Target
	// Refused are the answers of policy engines or quotas to the dry-run of all
	// patches, one for each workload; nothing was changed then.
	Refused []string
	// Moved is whether pull secrets, deckhouse-registry, Deployment
	// d8-system/deckhouse, every workload that we may re-point and our own are
	// on the target and available.
	Moved bool
	// Message is the progress: which part. Waiting is what that part waits for, with
	// a line for each.
	Message string
	Waiting []string
	// Skipped are workloads that we may not re-point, with the reason; users
	// see them in the message of the step.
	Skipped []string
}
