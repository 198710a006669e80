package fleet

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/layout"
)

// What a large cluster is made of, for each of its nodes.
const (
	perNodeOfPlatform = 12 // DaemonSets of the platform
	perNodeOfUsers    = 18 // Pods of users' Deployments
	podsOfDeployment  = 15
	oldReplicaSets    = 9 // that a Deployment keeps
)

// LargePods is how many Pods Large makes for each node.
const LargePods = perNodeOfPlatform + perNodeOfUsers

// Large makes the objects of a cluster of that many nodes, one after the other, as
// whole as the API server sends them. Everything of the platform is on the old name,
// and every node reports the generation.
func Large(nodes int, generation int64, each func(client.Object)) {
	for i := range nodes {
		node, rn := largeNode(i, generation)
		each(node)
		each(rn)
	}
	for i := range perNodeOfPlatform {
		name := fmt.Sprintf("ds-%02d", i)
		set := &appsv1.DaemonSet{ObjectMeta: largeMeta("d8-system-"+name, name, nil)}
		set.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
		set.Spec.Template = largeTemplate(name, Old().Reference(name+"@sha256:"+digit(i, 64)))
		set.Spec.UpdateStrategy.Type = appsv1.RollingUpdateDaemonSetStrategyType
		set.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: int32(nodes), CurrentNumberScheduled: int32(nodes), UpdatedNumberScheduled: int32(nodes), NumberAvailable: int32(nodes), NumberReady: int32(nodes)}
		each(set)
		for n := range nodes {
			each(largePod(set.Namespace, fmt.Sprintf("%s-%s", name, digit(n, 5)), nodeName(n), set.Spec.Template, owner("DaemonSet", set)))
		}
	}
	for i := range nodes * perNodeOfUsers / podsOfDeployment {
		largeDeployment(i, nodes, each)
	}
}

func largeDeployment(i, nodes int, each func(client.Object)) {
	name := fmt.Sprintf("app-%05d", i)
	replicas := int32(podsOfDeployment)
	d := &appsv1.Deployment{ObjectMeta: largeMeta(fmt.Sprintf("team-%03d", i%200), name, nil)}
	d.Spec.Replicas, d.Spec.Selector = &replicas, &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	d.Spec.Template = largeTemplate(name, "registry.example.com/team/"+name+":v1.2.3")
	d.Status = appsv1.DeploymentStatus{Replicas: replicas, UpdatedReplicas: replicas, AvailableReplicas: replicas}
	each(d)
	var now *appsv1.ReplicaSet
	for r := range oldReplicaSets + 1 {
		n := int32(0)
		if r == oldReplicaSets {
			n = replicas
		}
		rs := &appsv1.ReplicaSet{ObjectMeta: largeMeta(d.Namespace, fmt.Sprintf("%s-%s", name, digit(r, 10)), owner("Deployment", d))}
		rs.Spec.Replicas, rs.Spec.Selector, rs.Spec.Template, rs.Status.Replicas = &n, d.Spec.Selector, *d.Spec.Template.DeepCopy(), n
		rs.Spec.Template.Labels["pod-template-hash"] = digit(r, 10)
		rs.Spec.Template.Spec.Containers[0].Image = fmt.Sprintf("registry.example.com/team/%s:v1.2.%d", name, r)
		now = rs
		each(rs)
	}
	for p := range podsOfDeployment {
		each(largePod(d.Namespace, fmt.Sprintf("%s-%s", now.Name, digit(p, 5)), nodeName((i*podsOfDeployment+p)%nodes), now.Spec.Template, owner("ReplicaSet", now)))
	}
}

func nodeName(i int) string { return fmt.Sprintf("worker-%05d.cluster.example.com", i) }

// digit makes a word of n letters of a number.
func digit(i, n int) string {
	word := fmt.Sprintf("%x", i)
	return strings.Repeat("0", max(0, n-len(word))) + word
}

func uid(words ...string) types.UID {
	return types.UID(uuid.NewSHA1(uuid.Nil, []byte(strings.Join(words, "/"))).String())
}

func owner(kind string, o client.Object) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: o.GetName(), UID: o.GetUID(), Controller: &yes, BlockOwnerDeletion: &yes}}
}

// largeMeta is metadata with managedFields as long as they often are.
func largeMeta(namespace, name string, owners []metav1.OwnerReference) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: uid(name, namespace), ResourceVersion: "123456789", Generation: 1,
		Labels:          map[string]string{"app": name, "heritage": "deckhouse", "module": name, "app.kubernetes.io/managed-by": "Helm"},
		Annotations:     map[string]string{"kubectl.kubernetes.io/last-applied-configuration": strings.Repeat("x", 2000)},
		OwnerReferences: owners,
		ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "helm", Operation: metav1.ManagedFieldsOperationApply, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"` + strings.Repeat("f:x", 600) + `":{}}}`)},
			{Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:status":{"` + strings.Repeat("f:y", 200) + `":{}}}`)},
		},
	}
}

func largeTemplate(name, image string) corev1.PodTemplateSpec {
	env := make([]corev1.EnvVar, 0, 20)
	for i := range 20 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_NUMBER_%d", i), Value: strings.Repeat("v", 40)})
	}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name, "module": name, "tier": "node", "app.kubernetes.io/name": name}}}
	template.Spec.Containers = []corev1.Container{{Name: "main", Image: image, Env: env}, {Name: "kube-rbac-proxy", Image: image}}
	template.Spec.InitContainers = []corev1.Container{{Name: "init", Image: image}}
	template.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: v1alpha1.SecretRegistry}}
	template.Spec.Volumes = []corev1.Volume{{Name: "config"}, {Name: "data"}}
	return template
}

func largePod(namespace, name, node string, template corev1.PodTemplateSpec, owners []metav1.OwnerReference) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: largeMeta(namespace, name, owners), Spec: *template.Spec.DeepCopy()}
	pod.Labels = map[string]string{"pod-template-generation": "1", "controller-revision-hash": "7f9c8d6b5"}
	for key, value := range template.Labels {
		pod.Labels[key] = value
	}
	pod.Annotations = nil
	pod.Spec.NodeName = node
	pod.Status.Phase = corev1.PodRunning
	for _, kind := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	}
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: true,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}})
	}
	return pod
}

func largeNode(i int, generation int64) (*corev1.Node, *v1alpha1.RegistryNode) {
	name := nodeName(i)
	node := &corev1.Node{ObjectMeta: largeMeta("", name, nil)}
	node.Annotations = map[string]string{v1alpha1.AnnotationVersion: strings.Repeat("a", 64), "csi.volume.kubernetes.io/nodeid": strings.Repeat("n", 200), "projectcalico.org/IPv4Address": "10.0.0.1/24"}
	node.Labels = map[string]string{corev1.LabelOSStable: "linux", v1alpha1.LabelContainerdConfig: "default", v1alpha1.LabelNodeGroup: "worker"}
	for l := range 15 {
		node.Labels[fmt.Sprintf("feature.example.com/label-%02d", l)] = "true"
	}
	if i < 3 {
		node.Labels[cluster.LabelControlPlane] = ""
	}
	node.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "boot-of-" + name, Architecture: "amd64", ContainerRuntimeVersion: "containerd://2.4.2", KernelVersion: "6.8.0-generic", OSImage: "Ubuntu 24.04 LTS"}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for c := range 50 {
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("registry.example.com/image-%d@sha256:%s", c, digit(c, 64))}, SizeBytes: 1})
	}
	rn := &v1alpha1.RegistryNode{ObjectMeta: largeMeta("", name, owner("Node", node))}
	rn.Labels = cluster.Ours()
	rn.Spec.NodeGroup = "worker"
	rn.Status = v1alpha1.RegistryNodeStatus{
		NodeUID: string(node.UID), BootID: node.Status.NodeInfo.BootID, Generation: generation, Version: strings.Repeat("a", 64), Preflight: "Ready",
		Containerd: v1alpha1.ContainerdStatus{SandboxImage: layout.Fixed().Reference("pause:3.10")},
	}
	return node, rn
}
