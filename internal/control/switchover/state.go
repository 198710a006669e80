package switchover

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// State is all that a switch remembers, stored in Secret registry-state before
// anything that follows from it is written anywhere else.
type State struct {
	// Schema is the version of this document's encoding, 1, also of one that is stored in
	// another; see LargeSchema.
	Schema int `json:"schema"`
	// Generation is the highest generation ever taken, by a layout of any role
	// or by a change of Target. It outlives a layout that is withdrawn.
	Generation int64 `json:"generation"`
	// Active is the last target that was Ready. Zero until the controller has
	// seen the installation's registry for the first time.
	Active Target `json:"active"`
	// Target is what is being worked on, or Active when there is nothing to do.
	Target Target `json:"target"`
	// SpecHash identifies the spec that Target was resolved from: mode and
	// parameters. It is not a secret and is shown to users as part of key hash.
	SpecHash string `json:"wishHash,omitempty"`
	// Passed are the steps of Target's plan that were seen done, by name and
	// not by index, so that an upgrade that inserts a step moves nothing.
	Passed []Passed `json:"passed,omitempty"`
	// Desired is what the controller wants the cluster to look like. Only
	// Final and Cleanup take anything out of it.
	Desired Desired `json:"desired"`
	// Finalized is the generation of the layout that Final made for Target; 0
	// while the union stands.
	Finalized int64 `json:"finalized,omitempty"`
	// SafeGeneration is the generation of the last union that every counting
	// node was seen to serve. A node without a valid report for it is tainted.
	SafeGeneration int64 `json:"safeGeneration,omitempty"`
	// Bases are all names ever handed out and not yet pruned, sorted.
	Bases []layout.Name `json:"bases,omitempty"`
	// Checked is the last image check that passed.
	Checked *Checked `json:"checked,omitempty"`
	// Excluded are nodes that the barrier leaves out, as long as they stay
	// NotReady.
	Excluded []Exclusion `json:"excluded,omitempty"`
	// Believed are nodes that reported a generation that was never published, and
	// that this state was rebuilt for. It is bounded: see believe.go.
	Believed []Belief `json:"believed,omitempty"`
	// CleaningSince is when Cleanup first wanted the proxy to go, NamesChecked
	// when names kept for the sake of references were last looked at; both by
	// the controller's clock.
	CleaningSince time.Time `json:"cleaningSince,omitzero"`
	NamesChecked  time.Time `json:"namesChecked,omitzero"`
	// FallbackRemoved is the generation in which Cleanup took the fallback to
	// the in-cluster proxy out of the layout; 0 before that.
	FallbackRemoved int64 `json:"oneWay,omitempty"`
	// StoresRemoved is the generation in which Cleanup took the stores out of the
	// layout; 0 before that.
	StoresRemoved int64 `json:"storesRemoved,omitempty"`
	// Conditions are what the user sees, in the plan's order, Ready last.
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Passed says that a step was done at a generation.
type Passed struct {
	Step       string `json:"step"`
	Generation int64  `json:"generation"`
}

// Checked identifies an image check that passed: a fingerprint over upstream
// and references, the registry's host, how many images they were, and when.
type Checked struct {
	Registry    string    `json:"registry"`
	Fingerprint string    `json:"fingerprint"`
	Items       int       `json:"items"`
	At          time.Time `json:"at"`
	// Differing is how many tags were found to have another digest at the registry
	// that the cluster ran on.
	Differing int `json:"differing,omitempty"`
}

// Exclusion is a node that the barrier of a generation left out.
type Exclusion struct {
	Node       string `json:"node"`
	UID        string `json:"uid"`
	Generation int64  `json:"generation"`
}

// Desired is what the controller wants to be true. It accumulates: the old
// registry, its name and its pull secret stay in it until Final takes them out.
type Desired struct {
	// Layout is what agents route by. Generation 0: nothing is published and no
	// node is touched. ProxyLayout is what the in-cluster proxy routes by; zero
	// when it is the same. StoreLayout is what stores route by; zero without stores.
	// LayoutOf reads them.
	Layout      layout.Layout `json:"layout,omitzero"`
	ProxyLayout layout.Layout `json:"proxyLayout,omitzero"`
	StoreLayout layout.Layout `json:"storeLayout,omitzero"`
	// Shrunk is the generation of the agents' last layout that lacks a name or
	// an upstream of the one before it, ProxyShrunk that of the proxy's; zero
	// when it is the same. StoreShrunk is that of the stores'. See State.MayPublish.
	Shrunk      int64 `json:"shrunk,omitempty"`
	ProxyShrunk int64 `json:"proxyShrunk,omitempty"`
	StoreShrunk int64 `json:"storeShrunk,omitempty"`
	// Store is whether nodes should run stores. On which nodes follows from Observed.
	Store Store `json:"store,omitzero"`
	// Proxy is whether the in-cluster proxy and Service registry should exist.
	Proxy bool `json:"proxy,omitempty"`
	// Registry is what Secret deckhouse-registry should say. Zero: it is left
	// alone, because it is the user's (Unmanaged) or because a lost state does
	// not tell yet.
	Registry Target `json:"registry,omitzero"`
	// PullSecrets are the targets whose names and credentials image pull
	// secrets hold, the wanted one first. Empty: they are the user's.
	PullSecrets []Target `json:"pullSecrets,omitempty"`
	// Workloads is what platform workloads should be re-pointed to, from any
	// of State.Bases. Zero: they are left alone.
	Workloads layout.Name `json:"workloads,omitzero"`
	// Repoint is whether rollouts to Workloads may begin now. It is false while
	// a counting node does not know the name, and from a change of mind until
	// the new target's turn has come.
	Repoint bool `json:"repoint,omitempty"`
	// Own is the registry whose real address our own Deployments and DaemonSet
	// name; they never name the fixed address. Zero: they are left alone.
	Own upstream.Upstream `json:"own,omitzero"`
	// Bootstrap are the registries whose credentials the pull secret of our own
	// workloads holds, under their real addresses, the wanted one first: old and
	// new until Final.
	Bootstrap []upstream.Upstream `json:"bootstrap,omitempty"`
	// Legacy orders nodes back to the legacy containerd format: from the moment
	// that the user's deletion of registry-bashible-config was seen in
	// Unmanaged and Ready, until the next switch publishes a layout again. A node
	// obeys if its last layout is Unmanaged, or older than State.Generation. A node
	// that was away has an older one.
	Legacy bool `json:"legacy,omitempty"`
	// Restarts are the restarts of containerd that nodes may do now, sorted by
	// node. No step depends on them; steps wait for what nodes report.
	Restarts []Approval `json:"restarts,omitempty"`
}

// CheckRequest asks for an image check. It is not stored: it follows from
// State and Observed. See Protocol.CheckRequest.
type CheckRequest struct {
	Upstream upstream.Upstream `json:"upstream,omitzero"`
	// Images are to be found below the upstream's path: "module@sha256:..." or
	// "name:tag", sorted, each once.
	Images []string `json:"images,omitempty"`
	// Own is our own image, one of Images. Compare is the registry that the cluster
	// runs on, if it is another one: what has another digest there is told, and of Own
	// is waited for. They are no part of the fingerprint.
	Own     string            `json:"own,omitempty"`
	Compare upstream.Upstream `json:"compare,omitzero"`
}
