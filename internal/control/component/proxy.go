package component

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/state"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/pod"
)

const (
	proxyPort = 5001
	portName  = "distribution"
	typeProxy = "registry/incluster-proxy-config"
)

// inClusterProxy is the component that in-cluster clients pull through, and nodes
// whose own agent is away. A step waits for it before the platform moves.
func inClusterProxy(cfg Config) Component {
	return Component{
		Kind: "Deployment", Name: v1alpha1.DeploymentProxy,
		Wanted:   func(doc state.Document) bool { return doc.Desired.Proxy },
		First:    true,
		Template: func(image string, _ int) corev1.PodTemplateSpec { return proxyTemplate(cfg, image) },
		Replicas: func(o switchover.Observed) int { return o.Proxy.Wanted },
		Secret:   Secret{Name: v1alpha1.SecretProxy, Type: typeProxy, Data: proxyConfig},
		Service:  Service{Name: v1alpha1.ServiceRegistry, PortName: portName, Port: proxyPort, Selector: behindRegistry},
	}
}

// behindRegistry is who stands behind Service registry: the proxy, stores, or while one takes the
// place of the other, both.
func behindRegistry(doc state.Document) map[string]string {
	want := doc.Desired
	switch {
	case want.Store.IsZero() && !want.Proxy:
		return nil
	case want.Store.IsZero(), want.Proxy && want.Store.Alone == switchover.InClusterProxy:
		return map[string]string{v1alpha1.LabelApp: v1alpha1.DeploymentProxy}
	case !want.Proxy, want.Store.Alone == switchover.NodeServices:
		return map[string]string{v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelType: v1alpha1.TypeStore}
	}
	return map[string]string{v1alpha1.LabelComponent: v1alpha1.ComponentService}
}

// proxyConfig is all that the proxy reads: layout, users and certificate.
func proxyConfig(v *state.View) (map[string][]byte, error) {
	users, err := Users(v.Doc)
	if err != nil {
		return nil, err
	}
	routes, err := state.ProxyLayout(v)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		v1alpha1.KeyProxyLayout: routes,
		v1alpha1.KeyProxyUsers:  users,
		corev1.TLSCertKey:       []byte(v.Doc.PKI.Leaf.Cert),
		corev1.TLSPrivateKeyKey: []byte(v.Doc.PKI.Leaf.Key),
	}, nil
}

// Users is what the in-cluster proxy, and stores of nodes, know of their users.
func Users(doc state.Document) ([]byte, error) {
	encoded, err := yaml.Marshal(doc.Accepted())
	if err != nil {
		return nil, fmt.Errorf("encode users of the proxy: %w", err)
	}
	return encoded, nil
}

// proxyGrace, in seconds, is longer than a proxy serves on when told to stop: 20 s as before,
// 25 s for what is under way.
const proxyGrace int64 = 60

// proxyTemplate is the Pod of the in-cluster proxy.
func proxyTemplate(cfg Config, image string) corev1.PodTemplateSpec {
	selector := map[string]string{v1alpha1.LabelApp: v1alpha1.DeploymentProxy}
	labels := labelsOf(v1alpha1.DeploymentProxy, map[string]string{v1alpha1.LabelComponent: v1alpha1.ComponentService, v1alpha1.LabelType: v1alpha1.TypeProxy})
	container := corev1.Container{
		Name:    "proxy",
		Image:   image,
		Command: []string{"registry-proxy"},
		Args:    append([]string{fmt.Sprintf("--listen=:%d", proxyPort)}, cfg.ProxyArgs...),
		Env:     []corev1.EnvVar{pod.FieldEnv("POD_NAME", "metadata.name"), pod.FieldEnv("POD_NAMESPACE", "metadata.namespace")},
		Ports: []corev1.ContainerPort{
			{Name: portName, ContainerPort: proxyPort, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: 5002, Protocol: corev1.ProtocolTCP},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("metrics")}},
			// All numbers are set, so that same can compare them.
			PeriodSeconds: 5, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("metrics")}},
			PeriodSeconds: 10, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 6,
		},
		SecurityContext: pod.Locked(),
		Resources:       pod.Requests("25m", "40Mi"),
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			ServiceAccountName:           "registry-proxy",
			AutomountServiceAccountToken: new(true),
			PriorityClassName:            "system-cluster-critical",

			TerminationGracePeriodSeconds: new(proxyGrace),

			ImagePullSecrets: []corev1.LocalObjectReference{{Name: v1alpha1.SecretBootstrap}},
			Containers:       []corev1.Container{pod.Limited(container)},
			Tolerations:      proxyTolerations(),
			Affinity:         proxyAffinity(selector),
		},
	}
}

// proxyTolerations are for nodes of the platform, and for nodes with our taint. The
// proxy must not tolerate every taint: it would stay on a node that is unreachable.
func proxyTolerations() []corev1.Toleration {
	var all []corev1.Toleration
	for _, key := range []string{
		cluster.LabelControlPlane, cluster.LabelMaster, "dedicated.deckhouse.io", "dedicated", v1alpha1.TaintNotConverged,
	} {
		all = append(all, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
	return all
}

// proxyAffinity prefers control-plane nodes, one pod on each. It requires nothing:
// managed Kubernetes shows no control plane.
func proxyAffinity(selector map[string]string) *corev1.Affinity {
	return &corev1.Affinity{
		NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 100,
			Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: cluster.LabelControlPlane, Operator: corev1.NodeSelectorOpExists},
			}},
		}}},
		PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight:          100,
			PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: selector}},
		}}},
	}
}
