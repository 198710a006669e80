// Package fleet is a platform of workloads as a pass sees it, for tests below the
// API server. Start at New.
package fleet

import (
	"log/slog"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/upstream"
)

// Old is the name that workloads of a fleet are on.
func Old() layout.Name { return layout.Name{Host: "r.io", Path: "d8"} }

// Whose are the fleet's selections: the platform by its label, and our own.
func Whose() cluster.Selection {
	return cluster.Selection{
		Platform: labels.SelectorFromSet(labels.Set{"heritage": "deckhouse"}),
		Own:      []string{"Deployment/" + v1alpha1.DeploymentController, "Deployment/" + v1alpha1.DeploymentProxy, "DaemonSet/" + v1alpha1.DaemonSetAgent, "DaemonSet/" + v1alpha1.PodStore + "-1"},
	}
}

// Empty is a view of a cluster with nothing in it.
func Empty() *state.View {
	return &state.View{
		Snapshot: &cluster.Snapshot{Inventory: &cluster.Inventory{Whose: Whose()}, RegistryNodes: map[string]*v1alpha1.RegistryNode{}},
		Observed: switchover.Observed{Settings: switchover.DefaultSettings()},
	}
}

// New is a platform of Deployments and DaemonSets (those named ds...) on the old
// name, in the middle of a switch, see Moving. A word is a name with what has
// become of it: "a", "a:done", "a:rolling", "a:stuck". Moved ones are on the
// fixed address.
func New(words ...string) *state.View {
	v := Empty()
	v.Doc = Moving()
	v.Inventory.Namespaces = map[string]labels.Set{v1alpha1.Namespace: {"heritage": "deckhouse"}}
	for _, n := range words {
		name, state, _ := strings.Cut(n, ":")
		image, annotations := Old().Reference(":1"), map[string]string(nil)
		if state != "" {
			image, annotations = layout.Fixed().Reference(":1"), map[string]string{v1alpha1.AnnotationRepointed: "5", v1alpha1.AnnotationAvailable: "1"}
		}
		available := int32(1)
		if state == "rolling" {
			available = 0
		}
		m := metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name, Annotations: annotations}
		selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
		if strings.HasPrefix(name, "ds") {
			v.Inventory.DaemonSets = append(v.Inventory.DaemonSets, appsv1.DaemonSet{ObjectMeta: m,
				Spec:   appsv1.DaemonSetSpec{Selector: selector, Template: Template(image)},
				Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, UpdatedNumberScheduled: 1, NumberAvailable: available}})
		} else {
			v.Inventory.Deployments = append(v.Inventory.Deployments, appsv1.Deployment{ObjectMeta: m,
				Spec:   appsv1.DeploymentSpec{Selector: selector, Template: Template(image)},
				Status: appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: available}})
		}
		if state == "stuck" {
			pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: name + "-1", Labels: selector.MatchLabels}, Spec: Spec(image)}
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
			v.Inventory.Pods = append(v.Inventory.Pods, excerpt.PodOf(&pod))
		}
	}
	return v
}

// Moving is a document in the middle of switch 5, from the old name to the fixed
// address.
func Moving() state.Document {
	u := upstream.Upstream{Host: "r.io", Path: "d8", Scheme: upstream.HTTPS}
	doc := state.Document{Switch: 5}
	doc.Bases = []layout.Name{Old(), layout.Fixed()}
	doc.Desired.Workloads = layout.Fixed()
	doc.Desired.Repoint = true
	doc.Desired.Registry = switchover.Target{Mode: switchover.Direct, Upstream: u}
	return doc
}

// InNS is the metadata of an object in namespace ns.
func InNS(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: "ns", Name: name} }

// Spec is a pod of one container.
func Spec(image string) corev1.PodSpec {
	return corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: image}}}
}

// Template is the template of such a pod.
func Template(image string) corev1.PodTemplateSpec { return corev1.PodTemplateSpec{Spec: Spec(image)} }

// Pods are pods as a pass sees them.
func Pods(full ...corev1.Pod) []*excerpt.Pod {
	pods := make([]*excerpt.Pod, 0, len(full))
	for i := range full {
		pods = append(pods, excerpt.PodOf(&full[i]))
	}
	return pods
}

// Makers are ReplicaSets, Jobs and the like as a pass sees them.
func Makers(full ...client.Object) []*excerpt.Maker {
	makers := make([]*excerpt.Maker, 0, len(full))
	for _, o := range full {
		makers = append(makers, excerpt.MakerOf(o))
	}
	return makers
}

// Client is one that reaches no API server.
func Client() *cluster.Client {
	return &cluster.Client{Names: &cluster.KnownNames{}, Wake: func() {}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}
