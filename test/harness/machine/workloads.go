package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/d8-registry/registry/test/harness/kubelet"
)

// workload is what Deployment, DaemonSet and StatefulSet have in common.
type workload struct {
	object   client.Object
	kind     string
	template corev1.PodTemplateSpec
	hash     string
	slots    []string // names of nodes, one for each wanted pod
	surge    bool     // a new pod comes before the old one goes
	onDelete bool
	owner    metav1.OwnerReference // of its pods
}

func (w workload) key() string {
	return strings.ToLower(w.kind) + "." + w.object.GetNamespace() + "." + w.object.GetName()
}

// split finds the pod of the wanted template in a slot, and one of an older.
func split(pods []*corev1.Pod, hash string) (current, old *corev1.Pod) {
	for _, pod := range pods {
		if pod.Labels[hashLabel] == hash {
			current = pod
		} else {
			old = pod
		}
	}
	return current, old
}

func replicas(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}

func hashOf(template corev1.PodTemplateSpec) string {
	data, err := json.Marshal(template)
	if err != nil {
		panic(err) // a template came as JSON
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:5])
}

// eligible are the nodes that a pod of the template may be on; taints only
// matter when it is created.
func eligible(t corev1.PodTemplateSpec, nodes []corev1.Node) []string {
	var names []string
	for _, node := range nodes {
		if labels.SelectorFromSet(t.Spec.NodeSelector).Matches(labels.Set(node.Labels)) {
			names = append(names, node.Name)
		}
	}
	return names
}

// spread places n pods, each always on the same node.
func spread(name string, n int, t corev1.PodTemplateSpec, nodes []corev1.Node) []string {
	names := eligible(t, nodes)
	var slots []string
	for i := 0; i < n && len(names) > 0; i++ {
		slots = append(slots, names[(len(name)+i)%len(names)])
	}
	return slots
}

func schedulable(name string, t corev1.PodTemplateSpec, nodes []corev1.Node) bool {
	i := slices.IndexFunc(nodes, func(n corev1.Node) bool { return n.Name == name })
	return !slices.ContainsFunc(nodes[i].Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Effect != corev1.TaintEffectPreferNoSchedule && !slices.ContainsFunc(t.Spec.Tolerations, func(tol corev1.Toleration) bool {
			return tol.Key == "" && tol.Operator == corev1.TolerationOpExists || tol.Key == taint.Key
		})
	})
}

// listWorkloads reads what pods the cluster wants, and where.
func listWorkloads(ctx context.Context, reader client.Reader, nodes []corev1.Node) ([]workload, error) {
	var deployments appsv1.DeploymentList
	var daemons appsv1.DaemonSetList
	var stateful appsv1.StatefulSetList
	for _, list := range []client.ObjectList{&deployments, &daemons, &stateful} {
		if err := reader.List(ctx, list); err != nil {
			return nil, err
		}
	}
	var all []workload
	for i := range deployments.Items {
		d := &deployments.Items[i]
		w := workload{object: d, kind: "Deployment", template: d.Spec.Template, surge: true}
		w.slots = spread(d.Name, replicas(d.Spec.Replicas), d.Spec.Template, nodes)
		all = append(all, w)
	}
	for i := range daemons.Items {
		d := &daemons.Items[i]
		w := workload{object: d, kind: "DaemonSet", template: d.Spec.Template, slots: eligible(d.Spec.Template, nodes)}
		w.onDelete = d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
		w.owner = *metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind(w.kind))
		all = append(all, w)
	}
	for i := range stateful.Items {
		d := &stateful.Items[i]
		w := workload{object: d, kind: "StatefulSet", template: d.Spec.Template}
		w.slots = spread(d.Name, replicas(d.Spec.Replicas), d.Spec.Template, nodes)
		w.owner = *metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind(w.kind))
		all = append(all, w)
	}
	for i := range all {
		all[i].hash = hashOf(all[i].template)
	}
	return all, nil
}

// counts is how far a workload is.
type counts struct{ wanted, total, updated, ready int }

func (c *counts) add(current, old *corev1.Pod) {
	if current != nil {
		c.updated++
		c.total++
	}
	if old != nil {
		c.total++
	}
	if current != nil && kubelet.Ready(current) || old != nil && kubelet.Ready(old) {
		c.ready++
	}
}
