package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/node/watch"
)

// reporter owns the status of the node's own RegistryNode. The controller makes
// the object; until then there is nothing to report to.
type reporter struct {
	kube    dynamic.Interface
	name    string
	log     *slog.Logger
	adopted bool // the status that was found at start has been looked at

	mu  sync.Mutex
	own *registryv1alpha1.RegistryNode
}

const fieldManager = "registry-agent"

func newReporter(kube dynamic.Interface, name string, log *slog.Logger) *reporter {
	return &reporter{kube: kube, name: name, log: log}
}

func resource() schema.GroupVersionResource {
	return registryv1alpha1.GroupVersion().WithResource("registrynodes")
}

// follow keeps the own object up to date and calls changed whenever it is
// another one.
func (r *reporter) follow(ctx context.Context, changed func()) {
	object := watch.Object{Client: r.kube, Resource: resource(), Name: r.name}
	object.Run(ctx, r.log, func(o *unstructured.Unstructured) {
		if r.learn(o) {
			changed()
		}
	})
}

// learn takes what the API server says, unless it is older than what is known.
func (r *reporter) learn(o *unstructured.Unstructured) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o == nil {
		gone := r.own != nil
		r.own = nil
		return gone
	}
	var node registryv1alpha1.RegistryNode
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &node); err != nil {
		r.log.Warn("own RegistryNode cannot be read", "err", err)
		return false
	}
	if r.own != nil && r.own.UID == node.UID && version(&node) < version(r.own) {
		return false
	}
	r.own = &node
	return true
}

// version orders what is known of one object: our own write comes back through
// the watch, and something older may come before it.
func version(n *registryv1alpha1.RegistryNode) uint64 {
	v, err := strconv.ParseUint(n.ResourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// latest is the own object, nil while there is none.
func (r *reporter) latest() *registryv1alpha1.RegistryNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.own
}

// write reports, if that says anything new.
func (r *reporter) write(ctx context.Context, status registryv1alpha1.RegistryNodeStatus) error {
	own := r.latest()
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
		return nil // the watch will say when there is one again
	case err != nil:
		return fmt.Errorf("report to RegistryNode %s: %w", r.name, err)
	}
	r.learn(answer)
	r.log.Info("reported", "generation", status.Generation, "preflight", status.Preflight, "reason", status.Message)
	return nil
}

// apply writes the status, at the second try without the fields that the cluster's
// definition of RegistryNode lacks: an agent may be newer than that, after a
// rollback of the module, and the rest of its report is needed.
func (r *reporter) apply(ctx context.Context, own *registryv1alpha1.RegistryNode, body map[string]any) (*unstructured.Unstructured, error) {
	report := &unstructured.Unstructured{Object: map[string]any{"status": body}}
	report.SetAPIVersion(registryv1alpha1.GroupVersion().String())
	report.SetKind("RegistryNode")
	report.SetName(r.name)
	report.SetUID(own.UID) // a node of the same name is another one
	for {
		answer, err := r.kube.Resource(resource()).ApplyStatus(ctx, r.name, report,
			metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err == nil || !withoutUnknown(report.Object, err) {
			return answer, err //nolint:wrapcheck // the caller says what was tried
		}
	}
}

// Sizes that the API server takes, in characters. It refuses a report as a whole
// that has anything longer, and nobody would learn why the node does not come.
const (
	longestMessage = 8192
	longestWarning = 2048
)

// bounded is a report that is not too long in any place.
func bounded(s registryv1alpha1.RegistryNodeStatus) registryv1alpha1.RegistryNodeStatus {
	s.Message = clipped(s.Message, longestMessage)
	if s.Restart != nil {
		restart := *s.Restart
		restart.Message = clipped(restart.Message, longestMessage)
		s.Restart = &restart
	}
	s.Warnings = slices.Clone(s.Warnings)
	for i, w := range s.Warnings {
		s.Warnings[i] = clipped(w, longestWarning)
	}
	return s
}

func clipped(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// nodeUID is that of the Node that owns the RegistryNode. Agents have no access
// to Nodes.
func nodeUID(own *registryv1alpha1.RegistryNode) string {
	if own == nil {
		return ""
	}
	for _, o := range own.OwnerReferences {
		if o.Kind == "Node" {
			return string(o.UID)
		}
	}
	return ""
}
