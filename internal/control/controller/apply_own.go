package controller

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
)

// nodesPerSecond is how many agents may ask a new registry for the first time
// within a second: they spread over as many seconds as that takes.
const nodesPerSecond = 50

// applyOwn moves the module's own workloads to the real address that is
// wanted, after all others: their pull secret, the agents (whose running pods
// are not restarted by it), the proxy and at last the controller itself. What
// is missing altogether is made at once.
func (r *Reconciler) applyOwn(ctx context.Context, s *sight, doc document) error {
	if doc.Desired.Own.IsZero() {
		return nil
	}
	p := r.measure(s, doc)
	// Without a layout no node has to know a name before it is used.
	mayBegin := doc.Desired.Repoint || doc.Desired.Layout.IsZero()
	turn := mayBegin && len(p.todo)+len(p.underway) == 0 && !p.secrets && !p.registry
	agent := s.daemonSet(v1alpha1.DaemonSetAgent)
	want := r.agentDaemonSet(s, doc)
	if agent != nil && !turn && !s.undoes(want.Spec.Template, agent.Spec.Template) {
		return nil
	}
	if agent != nil {
		want.Spec.Template = r.ownTemplate(ctx, s, doc, want.Spec.Template, agent.Spec.Template)
	}
	if agent == nil || !equality.Semantic.DeepDerivative(want.Spec, agent.Spec) || !contains(agent.Labels, want.Labels) {
		if err := r.applyObject(ctx, want, appsv1.SchemeGroupVersion.WithKind("DaemonSet")); err != nil {
			return err
		}
	}
	if !turn {
		return nil
	}
	return r.moveOwnDeployments(ctx, s, doc)
}

// moveOwnDeployments re-points the proxy, and at last the process itself.
func (r *Reconciler) moveOwnDeployments(ctx context.Context, s *sight, doc document) error {
	if s.proxy != nil && doc.Desired.Proxy && !onBase(s, doc, s.proxy.Spec.Template) {
		want := r.proxyDeployment(s, doc)
		want.Spec.Template = r.ownTemplate(ctx, s, doc, want.Spec.Template, s.proxy.Spec.Template)
		return r.applyObject(ctx, want, appsv1.SchemeGroupVersion.WithKind("Deployment"))
	}
	if w, ok := s.controller(); ok {
		if ro := r.ownRollout(s, w, doc); !ro.none() && r.imageThere(ctx, s, doc) {
			r.log.Info("the controller re-points itself", "base", doc.Desired.Own.Base())
			if err := r.patch(ctx, ro, doc); err != nil {
				return fmt.Errorf("re-point %s: %w", w, err)
			}
		}
	}
	return nil
}

// ownProgress says what our own workloads still wait for; empty when nothing.
func (r *Reconciler) ownProgress(s *sight, doc document) string {
	if doc.Desired.Own.IsZero() {
		return ""
	}
	agent := s.daemonSet(v1alpha1.DaemonSetAgent)
	if agent == nil || !onBase(s, doc, agent.Spec.Template) {
		return "Re-pointing DaemonSet d8-system/" + v1alpha1.DaemonSetAgent
	}
	if s.proxy != nil && doc.Desired.Proxy {
		if !onBase(s, doc, s.proxy.Spec.Template) {
			return "Re-pointing Deployment d8-system/" + v1alpha1.DeploymentProxy
		}
		if waits := rolloutOf(s.proxy, s.world.Proxy.Wanted); waits != "" {
			return waits
		}
	}
	if w, ok := s.controller(); ok {
		if ro := r.ownRollout(s, w, doc); !ro.none() {
			if r.upgrades.missing != "" {
				return fmt.Sprintf("Re-pointing %s: its image %q is not found at %s: %s", w, r.cfg.Image, doc.Desired.Own.Base(), r.upgrades.missing)
			}
			return "Re-pointing " + w.String()
		}
	}
	return ""
}

func (r *Reconciler) ownRollout(s *sight, w workload, doc document) rollout {
	if r.mayMove(w, 0) != "" {
		return rollout{workload: w} // listed, and not waited for
	}
	return rollout{workload: w, moves: ownMoves(w, knownBases(doc, &s.world), layout.NameOf(doc.Desired.Own))}
}

// ownLeft says why the controller's own Deployment, which came with the chart,
// is not ours to re-point; false when it is or need not be.
func (r *Reconciler) ownLeft(s *sight, doc document) (leftover, bool) {
	w, ok := s.controller()
	if !ok || doc.Desired.Own.IsZero() || ownMoves(w, knownBases(doc, &s.world), layout.NameOf(doc.Desired.Own)).none() {
		return leftover{}, false
	}
	reason := r.mayMove(w, 0)
	return leftover{w, reason}, reason != ""
}

// keepImages keeps the images that a template has.
func keepImages(want, have *corev1.PodSpec) {
	for i := range want.Containers {
		for j := range have.Containers {
			if want.Containers[i].Name == have.Containers[j].Name {
				want.Containers[i].Image = have.Containers[j].Image
			}
		}
	}
}

// bootstrap is the pull secret of our own workloads: every registry whose real
// address one of their templates may name, the first of a host winning.
func bootstrap(doc document) map[string][]byte {
	auths := map[string]dockerAuth{}
	for _, u := range doc.Desired.Bootstrap {
		if _, taken := auths[u.Host]; !taken {
			auths[u.Host] = newAuth(u.Credentials)
		}
	}
	return map[string][]byte{corev1.DockerConfigJsonKey: mustJSON(dockerConfig{Auths: auths})}
}

// applyBootstrap writes it. Templates that name a registry come after it.
func (r *Reconciler) applyBootstrap(ctx context.Context, s *sight, doc document) error {
	if len(doc.Desired.Bootstrap) == 0 {
		return nil
	}
	return r.putData(ctx, s, v1alpha1.SecretBootstrap, corev1.SecretTypeDockerConfigJson, bootstrap(doc))
}

// agentGrace, in seconds, is longer than serve drains (20), and than a restart of
// containerd that node has begun takes as a rule.
const agentGrace = 120

// agentDaemonSet is the agent of every node.
func (r *Reconciler) agentDaemonSet(s *sight, doc document) *appsv1.DaemonSet {
	selector := map[string]string{labelApp: v1alpha1.DaemonSetAgent}
	template := r.agentTemplate(r.ownImage(doc), len(s.nodes)/nodesPerSecond)
	revise(&template, r.agentTemplate(r.cfg.Image, 0))
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: v1alpha1.Namespace, Name: v1alpha1.DaemonSetAgent, Labels: agentLabels()},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			// A switch must not restart what the switch is made with; an upgrade
			// is rolled by us.
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType},
			Template:       template,
		},
	}
}

func agentLabels() map[string]string {
	labels := ours()
	labels[labelApp] = v1alpha1.DaemonSetAgent
	return labels
}

// agentTemplate is one agent: serve routes pulls and is locked in, node works on
// the host and does not listen. Jitter, in seconds, is how long nodes spread over.
func (r *Reconciler) agentTemplate(image string, jitter int) corev1.PodTemplateSpec {
	args := append([]string{"--listen=127.0.0.1:" + strconv.Itoa(r.cfg.AgentPort)}, r.cfg.AgentArgs...)
	env := []corev1.EnvVar{fieldEnv("NODE_NAME", "spec.nodeName"), fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"), fieldEnv("POD_UID", "metadata.uid")}
	state := corev1.VolumeMount{Name: "state", MountPath: "/var/lib/registry-agent"}
	serve := corev1.Container{
		Name: "serve", Image: image, Command: []string{"registry-agent", "serve"}, Args: args, Env: env,
		VolumeMounts:    []corev1.VolumeMount{state},
		SecurityContext: lockedOnHost(),
		// No limit, here and below: one that is reached is a pull that fails, or a
		// script that is killed.
		Resources: requests("25m", "40Mi"),
	}
	// serve is nobody on the node; its folder is made by root, before both start.
	prepare := corev1.Container{
		Name: "prepare", Image: image, Command: []string{"registry-agent", "prepare"}, Args: args,
		VolumeMounts:    []corev1.VolumeMount{state},
		SecurityContext: preparing(),
		Resources:       requests("10m", "20Mi"),
	}
	nodeArgs := append([]string{fmt.Sprintf("--jitter=%ds", jitter), "--scripts=" + cmp.Or(r.cfg.Scripts, "on")}, args...)
	node := corev1.Container{
		Name: "node", Image: image, Command: []string{"registry-agent", "node"}, Args: nodeArgs, Env: env,
		// The host is reached through /proc/1/root: containerd's files, systemd's
		// D-Bus, and the shell of scripts. No mount of /etc could do: the main file
		// is replaced by a rename, and where it lies only containerd knows.
		VolumeMounts:    []corev1.VolumeMount{state, {Name: "containerd", MountPath: "/run/containerd"}},
		SecurityContext: onHost(),
		Resources:       requests("10m", "20Mi"),
	}
	create, token, grace := corev1.HostPathDirectoryOrCreate, true, int64(agentGrace)
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: agentLabels()},
		Spec: corev1.PodSpec{
			ServiceAccountName: "registry-agent",
			// Both halves talk to the API server.
			AutomountServiceAccountToken: &token,
			HostNetwork:                  true,
			HostPID:                      true,
			DNSPolicy:                    corev1.DNSDefault,
			PriorityClassName:            "system-node-critical",

			TerminationGracePeriodSeconds: &grace,

			ImagePullSecrets: []corev1.LocalObjectReference{{Name: v1alpha1.SecretBootstrap}},
			InitContainers:   []corev1.Container{prepare},
			Containers:       []corev1.Container{serve, node},
			Tolerations:      []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Affinity:         agentAffinity(),
			Volumes: []corev1.Volume{
				{Name: "state", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/registry-agent", Type: &create}}},
				// Not there where the runtime is another, which the agent then says.
				{Name: "containerd", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/containerd", Type: &create}}},
			},
		},
	}
}

// agentAffinity says the same as wantsAgent.
func agentAffinity() *corev1.Affinity {
	not := func(key, value string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpNotIn, Values: []string{value}}
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			not(corev1.LabelOSStable, "windows"), not(labelType, "virtual-kubelet"), not(labelCompute, "fargate"), not(v1alpha1.LabelAgent, "false"),
		}}},
	}}}
}

// applyObject writes one of our own objects by server-side apply: nobody else
// has a say in it.
func (r *Reconciler) applyObject(ctx context.Context, object client.Object, kind schema.GroupVersionKind) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", kind.Kind, key(object), err)
	}
	delete(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	u := &unstructured.Unstructured{Object: fields}
	u.SetGroupVersionKind(kind)
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), owner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply %s %s: %w", kind.Kind, key(object), err)
	}
	return nil
}

func (s *sight) daemonSet(name string) *appsv1.DaemonSet {
	for i := range s.inv.daemonSets {
		if ds := &s.inv.daemonSets[i]; ds.Namespace == v1alpha1.Namespace && ds.Name == name {
			return ds
		}
	}
	return nil
}

// controller is the Deployment that this process runs in, if there is one.
func (s *sight) controller() (workload, bool) {
	for _, w := range s.inv.workloads(nothing()) {
		if w.own && w.GetName() == v1alpha1.DeploymentController {
			return w, true
		}
	}
	return workload{}, false
}

func nothing() labels.Selector { return labels.Nothing() }

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

func requests(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}
}
