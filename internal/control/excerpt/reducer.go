package excerpt

import (
	"net/netip"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/foreign"
	"github.com/d8-registry/registry/internal/shelf"
)

// Reducer makes of objects what is held of them, and once what they have in common.
// The zero Reducer is ready.
type Reducer struct {
	alike shelf.Shelf[Alike]
	metas shelf.Shelf[metav1.ObjectMeta] // of ReplicaSets
}

// Reduce is what is held of an object. Of most kinds it is the object, made shorter
// where it is. Of some there are so many that it is of another type: a Pod or a Maker.
// What was reduced before stays as it is.
func (r *Reducer) Reduce(object any) any {
	switch o := object.(type) {
	case *Pod, *Maker:
	case *corev1.Pod:
		pod := PodOf(o)
		pod.share(&r.alike)
		return pod
	case *appsv1.ReplicaSet: // no two have the same images, the ten of a Deployment all else
		maker := MakerOf(o)
		maker.shareMeta(&r.metas)
		return maker
	case *batchv1.Job, *corev1.ReplicationController, *appsv1.ControllerRevision:
		maker := MakerOf(o.(client.Object))
		maker.share(&r.alike)
		return maker
	case *appsv1.Deployment:
		reduceWorkload(&o.ObjectMeta, &o.Spec.Template)
	case *appsv1.DaemonSet:
		reduceWorkload(&o.ObjectMeta, &o.Spec.Template)
	case *appsv1.StatefulSet:
		reduceWorkload(&o.ObjectMeta, &o.Spec.Template)
	case *batchv1.CronJob:
		reduceWorkload(&o.ObjectMeta, &o.Spec.JobTemplate.Spec.Template)
	case *coordinationv1.Lease:
		reduceLease(o)
	case *corev1.Node:
		reduceNode(o)
	case *v1alpha1.RegistryNode:
		reduceReport(o)
	case metav1.Object:
		o.SetManagedFields(nil)
	}
	return object
}

// appliedWith is where kubectl keeps a copy of the whole object.
const appliedWith = "kubectl.kubernetes.io/last-applied-configuration"

// reduceWorkload drops of a workload what no pass looks at: of managedFields it keeps
// those that say who applies its images again, of its template what refers to images.
// Those of d8-system stay whole, because ours are compared with what they should be.
func reduceWorkload(m *metav1.ObjectMeta, template *corev1.PodTemplateSpec) {
	if m.Namespace == v1alpha1.Namespace {
		return
	}
	m.ManagedFields = slices.DeleteFunc(m.ManagedFields, func(e metav1.ManagedFieldsEntry) bool { return !IsReapplier(e.Manager) })
	delete(m.Annotations, appliedWith)
	m.Labels, template.Labels = sameWords(m.Labels), sameWords(template.Labels)
	full := &template.Spec
	kept := corev1.PodSpec{ImagePullSecrets: full.ImagePullSecrets, InitContainers: reduceContainers(full.InitContainers), Containers: reduceContainers(full.Containers)}
	for i := range full.Volumes {
		if full.Volumes[i].Image != nil {
			kept.Volumes = append(kept.Volumes, full.Volumes[i])
		}
	}
	template.Spec = kept
}

func reduceContainers(from []corev1.Container) []corev1.Container {
	to := make([]corev1.Container, 0, len(from))
	for i := range from {
		to = append(to, corev1.Container{Name: from[i].Name, Image: from[i].Image, ImagePullPolicy: from[i].ImagePullPolicy})
	}
	return to
}

// reduceLease keeps which Lease it is, and that it has changed.
func reduceLease(lease *coordinationv1.Lease) {
	m := lease.ObjectMeta
	*lease = coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: m.Name, Namespace: m.Namespace, UID: m.UID, ResourceVersion: m.ResourceVersion}}
}

// reduceNode drops what changes often or is long, and no pass looks at.
func reduceNode(node *corev1.Node) {
	node.ManagedFields, node.Labels, node.Annotations = nil, sameWords(node.Labels), ofOurs(node.Annotations)
	foreign.Fields(&node.Status.NodeInfo, func(string) int { return foreign.Word }) // the kubelet says so
	status := corev1.NodeStatus{NodeInfo: node.Status.NodeInfo, Addresses: internalIPs(node.Status.Addresses)}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	node.Status = status
}

// mostAddresses is more than a node has in its network: one of each family.
const mostAddresses = 8

// internalIPs are the addresses by which other nodes reach this one, as they are usually
// written. The kubelet says so.
func internalIPs(all []corev1.NodeAddress) (own []corev1.NodeAddress) {
	for _, a := range all {
		ip, err := netip.ParseAddr(a.Address)
		if err == nil && a.Type == corev1.NodeInternalIP && ip.Zone() == "" && ip.IsGlobalUnicast() && len(own) < mostAddresses {
			own = append(own, corev1.NodeAddress{Type: a.Type, Address: ip.Unmap().String()})
		}
	}
	return own
}

// ofOurs are the annotations with a name of ours; nil if there is none.
func ofOurs(annotations map[string]string) map[string]string {
	var ours map[string]string
	for key, value := range annotations {
		if strings.HasPrefix(key, v1alpha1.Group+"/") {
			if ours == nil {
				ours = map[string]string{}
			}
			ours[same(key)] = value
		}
	}
	return ours
}
