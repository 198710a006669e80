package report

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/node/watch"
)

// Identity is what a report says whatever is found.
type Identity struct {
	AgentVersion string
	PodUID       string // of the agent's Pod
	BootID       string
	SourceDir    string // where users and scripts write host directories
}

// Options are a Reporter's parts.
type Options struct {
	Kube     dynamic.Interface
	Node     string // the RegistryNode's name, which is the Node's
	Identity Identity
	Log      *slog.Logger
	// Now is for tests; nil is the clock.
	Now func() time.Time
}

// Reporter writes the status of the node's own RegistryNode. The controller
// makes the object; until then nothing can be reported. One goroutine calls Begin
// and Finish; the rest may be called by any.
type Reporter struct {
	kube     dynamic.Interface
	name     string
	log      *slog.Logger
	identity Identity
	memory   memory
	adopted  bool // the status that was there at the start has been looked at

	mu      sync.Mutex
	own     *registryv1alpha1.RegistryNode
	written ownWrite
}

// ownWrite is our own last write: what the API server answered, and when.
type ownWrite struct {
	version uint64
	at      time.Time
}

const fieldManager = "registry-agent"

// New makes a Reporter.
func New(o Options) *Reporter {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reporter{
		kube: o.Kube, name: o.Node, log: o.Log, identity: o.Identity,
		memory: memory{since: map[string]time.Time{}, now: o.Now},
	}
}

// Begin is the report of a new pass.
func (r *Reporter) Begin() *Report {
	v := &Report{Own: r.Latest(), memory: &r.memory}
	v.Status.AgentVersion, v.Status.AgentPod, v.Status.BootID = r.identity.AgentVersion, r.identity.PodUID, r.identity.BootID
	v.Status.NodeUID = NodeUID(v.Own)
	v.Status.LayoutSchema = layout.Newest
	v.Status.Containerd.SourceDirectory = r.identity.SourceDir
	if v.Own != nil && !r.adopted {
		r.adopted = true
		v.adopt()
	}
	return v
}

// Finish writes the report of a pass, if it says anything new.
func (r *Reporter) Finish(ctx context.Context, v *Report) {
	v.complete()
	if ctx.Err() != nil || v.Again || v.Hold || v.Own == nil {
		return
	}
	if err := r.write(ctx, v.Status); err != nil {
		r.log.Warn("report not written", "err", err)
		v.Retry = true
	}
}

// WriteRestart reports that containerd is about to be restarted. The rest of the
// report stays as it was.
func (r *Reporter) WriteRestart(ctx context.Context, restart registryv1alpha1.RestartStatus) {
	own := r.Latest()
	if own == nil {
		return
	}
	status := *own.Status.DeepCopy()
	status.Restart = &restart
	if err := r.write(ctx, status); err != nil {
		r.log.Warn("report not written", "err", err)
	}
}

func resource() schema.GroupVersionResource {
	return registryv1alpha1.GroupVersion().WithResource("registrynodes")
}

// Follow keeps the own object up to date until the context ends, and calls
// changed whenever the object has changed.
func (r *Reporter) Follow(ctx context.Context, changed func()) {
	object := watch.Object{Client: r.kube, Resource: resource(), Name: r.name}
	object.Run(ctx, r.log, func(o *unstructured.Unstructured, since time.Time) {
		if r.learn(o, since) {
			changed()
		}
	})
}

// learn takes what the API server has; since is when it was asked for that at the
// latest. After our own write the watch may still bring what was there before. That
// is dropped, but nothing else is: versions may also go back, when the cluster is
// restored from a backup, and then what is there counts.
func (r *Reporter) learn(o *unstructured.Unstructured, since time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o == nil {
		gone := r.own != nil
		r.own = nil
		return gone
	}
	node, err := decode(o)
	if err != nil {
		r.log.Warn("own RegistryNode cannot be read", "err", err)
		return false
	}
	before := r.own
	if before != nil && before.UID == node.UID && !since.After(r.written.at) && version(node) < r.written.version {
		return false
	}
	r.own = node
	return before == nil || before.UID != node.UID || before.ResourceVersion != node.ResourceVersion
}

// learnAnswer takes what the API server answered to our own write, unless the
// watch has brought something newer meanwhile, or that the object is gone.
func (r *Reporter) learnAnswer(o *unstructured.Unstructured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	node, err := decode(o)
	if err != nil || r.own == nil || r.own.UID != node.UID {
		return // the watch tells
	}
	r.written = ownWrite{version: version(node), at: time.Now()} // the watch has the same clock
	if version(node) >= version(r.own) {
		r.own = node
	}
}

func decode(o *unstructured.Unstructured) (*registryv1alpha1.RegistryNode, error) {
	var node registryv1alpha1.RegistryNode
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &node)
	return &node, err
}

// version orders the states of one object, as long as the cluster is not restored.
func version(n *registryv1alpha1.RegistryNode) uint64 {
	v, _ := strconv.ParseUint(n.ResourceVersion, 10, 64) // 0 if it is none
	return v
}

// Latest is the own object; nil while there is none.
func (r *Reporter) Latest() *registryv1alpha1.RegistryNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own
}

// write writes a status, unless it is there already.
func (r *Reporter) write(ctx context.Context, status registryv1alpha1.RegistryNodeStatus) error {
	own := r.Latest()
	status = bounded(status)
	if own == nil || equality.Semantic.DeepEqual(own.Status, status) {
		return nil
	}
	body, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	answer, err := r.apply(ctx, own, body)
	switch {
	case apierrors.IsNotFound(err):
		return nil // the watch tells when there is one again
	case err != nil:
		return fmt.Errorf("report to RegistryNode %s: %w", r.name, err)
	}
	r.learnAnswer(answer)
	r.log.Info("reported", "generation", status.Generation, "preflight", status.Preflight, "reason", status.Message)
	return nil
}

// apply writes the status. After a rollback of the module, the cluster's
// definition of RegistryNode may be older than this agent: then the second try
// leaves out the fields that it does not have, because the rest is needed.
func (r *Reporter) apply(ctx context.Context, own *registryv1alpha1.RegistryNode, body map[string]any) (*unstructured.Unstructured, error) {
	report := &unstructured.Unstructured{Object: map[string]any{"status": body}}
	report.SetAPIVersion(registryv1alpha1.GroupVersion().String())
	report.SetKind("RegistryNode")
	report.SetName(r.name)
	report.SetUID(own.UID) // never write to a later node of the same name
	for {
		answer, err := r.kube.Resource(resource()).ApplyStatus(ctx, r.name, report,
			metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err == nil || !withoutUnknown(report.Object, err) {
			return answer, err //nolint:wrapcheck // the caller says what was tried
		}
	}
}
