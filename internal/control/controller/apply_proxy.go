package controller

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/layout"
)

// Keys of Secret registry-incluster-proxy-config, all that the proxy reads.
const (
	typeProxy = "registry/incluster-proxy-config"
	labelApp  = "app"
	portName  = "distribution"
)

// applyProxy makes or removes the in-cluster proxy with its Service.
func (r *Reconciler) applyProxy(ctx context.Context, s *sight, doc document) error {
	if !doc.Desired.Proxy {
		return r.removeProxy(ctx, s)
	}
	if s.layoutSecret != nil {
		if err := r.applyProxyConfig(ctx, s, doc); err != nil {
			return err
		}
	}
	if err := r.applyService(ctx, s); err != nil {
		return err
	}
	if doc.Desired.Own.IsZero() {
		return nil
	}
	want := r.proxyDeployment(s, doc)
	if s.proxy != nil {
		want.Spec.Template = r.proxyTemplateNow(ctx, s, doc, want.Spec.Template)
		if equality.Semantic.DeepDerivative(want.Spec, s.proxy.Spec) && contains(s.proxy.Labels, want.Labels) {
			return nil
		}
	}
	return r.applyObject(ctx, want, appsv1.SchemeGroupVersion.WithKind("Deployment"))
}

// proxyTemplateNow is what the template of the proxy that is there should be
// before its turn to move has come.
func (r *Reconciler) proxyTemplateNow(ctx context.Context, s *sight, doc document, want corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	have := s.proxy.Spec.Template
	same := revisionOf(&have) == revisionOf(&want)
	switch {
	case mayUpgrade(doc) && (same || r.imageThere(ctx, s, doc)):
	case same:
		keepImages(&want.Spec, &have.Spec)
	case s.undoes(want, have):
	default:
		return *have.DeepCopy()
	}
	return want
}

func (r *Reconciler) applyProxyConfig(ctx context.Context, s *sight, doc document) error {
	users := make([]regauth.User, 0, len(doc.Users))
	for _, u := range doc.Users {
		users = append(users, regauth.User{Name: u.Username, SHA256: hashOf(u.Password), Role: u.Role})
	}
	encoded, err := yaml.Marshal(users)
	if err != nil {
		return fmt.Errorf("encode users of the proxy: %w", err)
	}
	routes, err := proxyLayout(s, doc)
	if err != nil {
		return err
	}
	return r.putData(ctx, s, v1alpha1.SecretProxy, typeProxy, map[string][]byte{
		v1alpha1.KeyProxyLayout: routes,
		v1alpha1.KeyProxyUsers:  encoded,
		corev1.TLSCertKey:       []byte(doc.PKI.Leaf.Cert),
		corev1.TLSPrivateKeyKey: []byte(doc.PKI.Leaf.Key),
	})
}

// proxyLayout is what the proxy may be given to route by. If it is the agents'
// layout, that is what was published and not what is desired: so the guards of
// applyLayout are the proxy's too. A layout of its own has the same guard.
func proxyLayout(s *sight, doc document) ([]byte, error) {
	own := doc.Desired.ProxyLayout
	if own.IsZero() {
		return s.layoutSecret.Data[v1alpha1.KeyLayout], nil
	}
	if err := doc.MayPublish(switchover.InClusterProxy, s.world.ProxyPublished); err != nil {
		return nil, fmt.Errorf("publish the proxy's layout of generation %d: %w", own.Generation, err)
	}
	return layout.Encode(own)
}

// applyService makes Service registry: an ordinary ClusterIP, so that a
// restart of the proxy changes nothing on nodes.
func (r *Reconciler) applyService(ctx context.Context, s *sight) error {
	selector := map[string]string{labelApp: v1alpha1.DeploymentProxy}
	if s.service != nil {
		if equality.Semantic.DeepEqual(s.service.Spec.Selector, selector) && contains(s.service.Labels, ours()) {
			return nil
		}
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.ServiceRegistry, Labels: ours()},
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: selector,
			Ports:    []corev1.ServicePort{{Name: portName, Port: proxyPort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(portName)}},
		},
	}
	return r.applyObject(ctx, service, corev1.SchemeGroupVersion.WithKind("Service"))
}

// removeProxy deletes the proxy: pods first, then the way to them, then what
// they read.
func (r *Reconciler) removeProxy(ctx context.Context, s *sight) error {
	var doomed []client.Object
	if s.proxy != nil {
		doomed = append(doomed, s.proxy)
	}
	if s.service != nil {
		doomed = append(doomed, s.service)
	}
	if secret := s.own(v1alpha1.SecretProxy); secret != nil {
		doomed = append(doomed, secret)
	}
	for _, object := range doomed {
		if !contains(object.GetLabels(), map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}) || object.GetDeletionTimestamp() != nil {
			continue
		}
		target, ok := object.DeepCopyObject().(client.Object)
		if !ok {
			continue
		}
		uid := object.GetUID()
		err := r.client.Delete(ctx, target, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("delete %s: %w", key(object), err)
		}
	}
	return nil
}

// proxyDeployment is the in-cluster proxy: one pod per control-plane node that
// can run one.
func (r *Reconciler) proxyDeployment(s *sight, doc document) *appsv1.Deployment {
	wanted := int32(s.world.Proxy.Wanted)
	template := r.proxyTemplate(r.ownImage(doc))
	revise(&template, r.proxyTemplate(r.cfg.Image))
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.DeploymentProxy, Labels: template.Labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: &wanted,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{labelApp: v1alpha1.DeploymentProxy}},
			Template: template,
		},
	}
}

func (r *Reconciler) proxyTemplate(image string) corev1.PodTemplateSpec {
	selector := map[string]string{labelApp: v1alpha1.DeploymentProxy}
	labels := ours()
	for k, v := range map[string]string{labelApp: v1alpha1.DeploymentProxy, "component": "registry-service", "type": "incluster-proxy"} {
		labels[k] = v
	}
	container := corev1.Container{
		Name:    "proxy",
		Image:   image,
		Command: []string{"registry-proxy"},
		Args:    append([]string{fmt.Sprintf("--listen=:%d", proxyPort)}, r.cfg.ProxyArgs...),
		Env: []corev1.EnvVar{
			fieldEnv("POD_NAME", "metadata.name"),
			fieldEnv("POD_NAMESPACE", "metadata.namespace"),
		},
		Ports: []corev1.ContainerPort{
			{Name: portName, ContainerPort: proxyPort, Protocol: corev1.ProtocolTCP},
			{Name: "metrics", ContainerPort: 5002, Protocol: corev1.ProtocolTCP},
		},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("metrics")}},
			// All numbers are spelled out: DeepDerivative takes 0 for a wish.
			PeriodSeconds: 5, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("metrics")}},
			PeriodSeconds: 10, TimeoutSeconds: 5, SuccessThreshold: 1, FailureThreshold: 6,
		},
		SecurityContext: locked(),
		Resources:       requests("25m", "40Mi"),
	}
	token := true
	grace := int64(45) // it drains for almost half a minute
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec: corev1.PodSpec{
			ServiceAccountName: "registry-proxy",

			AutomountServiceAccountToken: &token,

			PriorityClassName: "system-cluster-critical",

			TerminationGracePeriodSeconds: &grace,

			ImagePullSecrets: []corev1.LocalObjectReference{{Name: v1alpha1.SecretBootstrap}},
			Containers:       []corev1.Container{container},
			Tolerations:      proxyTolerations(),
			Affinity:         proxyAffinity(selector),
		},
	}
}

// proxyTolerations are for nodes that are kept for the platform, and for those
// that wait for a switch. Not for all taints: who tolerates that a node is
// unreachable is put there, and never replaced.
func proxyTolerations() []corev1.Toleration {
	var all []corev1.Toleration
	for _, key := range []string{
		labelControlPlane, "node-role.kubernetes.io/master", "dedicated.deckhouse.io", "dedicated", v1alpha1.TaintNotConverged,
	} {
		all = append(all, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
	return all
}

// proxyAffinity prefers control-plane nodes, one pod each. It requires
// nothing: in managed Kubernetes there is no control plane to be seen.
func proxyAffinity(selector map[string]string) *corev1.Affinity {
	return &corev1.Affinity{
		NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 100,
			Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
				{Key: labelControlPlane, Operator: corev1.NodeSelectorOpExists},
			}},
		}}},
		PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight:          100,
			PodAffinityTerm: corev1.PodAffinityTerm{TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: selector}},
		}}},
	}
}

// ownImage is our image under the registry's real address.
func (r *Reconciler) ownImage(doc document) string {
	return layout.NameOf(doc.Desired.Own).Reference(r.cfg.Image)
}
