package controller

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"hash/fnv"
	"log/slog"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/cluster"
	"github.com/d8-registry/registry/internal/control/excerpt"
	"github.com/d8-registry/registry/internal/datapath/proxy"
	"github.com/d8-registry/registry/internal/datapath/regauth"
	"github.com/d8-registry/registry/internal/datapath/routes"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/internal/pki"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/kubelet"
)

// simulator does what is not under test: it reports as agents do, it is the
// Deployment and DaemonSet controllers with their kubelets, and it is one
// in-cluster proxy with the real data path.
type simulator struct {
	c              *testbed
	gatewayAddress string
	table          *routes.Table
	leaf           pki.Reloader
	users          atomic.Pointer[regauth.Users]

	pass     sync.Mutex // held during a pass, and taken before mu
	mu       sync.Mutex
	silent   map[string]bool // nodes whose agent does not report
	stuck    map[string]bool // workloads whose new pods cannot pull
	paused   bool
	restarts map[string]int    // pods made per workload
	history  []layout.Layout   // every layout that agents saw
	nodes    map[string]string // node -> preflight, where it is not Ready
	messages map[string]string // node -> message of its report
	v1       map[string]*simV1 // nodes that need a restart
	older    map[string]bool   // nodes, and the proxy's Deployment, that read layouts of schema 1 only

	mostRunning int // nodes that restarted at once

	kubelets *simKubelets // nil: agents have no pods
}

func simulate(c *testbed) *simulator {
	s := &simulator{
		c: c, table: routes.NewTable(nil),
		silent: map[string]bool{}, stuck: map[string]bool{}, restarts: map[string]int{}, nodes: map[string]string{},
		messages: map[string]string{}, v1: map[string]*simV1{}, older: map[string]bool{},
	}
	handler := regauth.Require(s.users.Load, proxy.New(s.table, proxy.Config{Log: slog.New(slog.DiscardHandler), DefaultHost: layout.Fixed().Host}))
	gateway := httptest.NewUnstartedServer(handler)
	gateway.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	// Not StartTLS: it prefers a certificate of its own to the callback.
	gateway.Listener = tls.NewListener(gateway.Listener, &tls.Config{GetCertificate: s.leaf.GetCertificate, MinVersion: tls.VersionTLS12})
	gateway.Start()
	s.gatewayAddress = gateway.Listener.Addr().String()
	c.t.Cleanup(s.table.Close)
	c.t.Cleanup(gateway.Close)
	installation.Background(c.t, s.run)
	return s
}

func (s *simulator) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.work(ctx)
		installation.Pause(15 * time.Millisecond)
	}
	return nil
}

func (s *simulator) work(ctx context.Context) {
	s.pass.Lock()
	defer s.pass.Unlock()
	if s.paused {
		return
	}
	for _, part := range []func(context.Context) error{s.agents, func(ctx context.Context) error { return s.deployments(ctx) }, s.daemonSets, s.storeSets, s.gateway} {
		if err := part(ctx); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && !apierrors.IsAlreadyExists(err) {
			s.c.t.Errorf("simulator: %v", err)
		}
	}
}

// set is what a test does. It is between two passes: nothing is done any more, after it,
// by what was before it.
func (s *simulator) set(change func(*simulator)) {
	s.pass.Lock()
	defer s.pass.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// agents report what is published, as the real ones do.
func (s *simulator) agents(ctx context.Context) error {
	var secret corev1.Secret
	err := s.c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretLayout}, &secret)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	var l layout.Layout
	if err == nil {
		if l, err = layout.Decode(secret.Data[v1alpha1.KeyLayout]); err != nil {
			return nil //nolint:nilerr // an agent keeps what it has
		}
		s.note(l)
	}
	compact := isCompact(secret.Data[v1alpha1.KeyLayout])
	var nodes v1alpha1.RegistryNodeList
	if err := s.c.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range nodes.Items {
		read := l
		if s.isOlder(nodes.Items[i].Name) && compact {
			read = layout.Layout{} // it keeps what it has
		}
		if err := s.reportFor(ctx, &nodes.Items[i], read); err != nil {
			return err
		}
	}
	return nil
}

// isCompact reports whether a layout is of schema 2.
func isCompact(data []byte) bool { return bytes.Contains(data, []byte("\nschema: 2\n")) }

func (s *simulator) isOlder(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.older[name]
}

func (s *simulator) note(l layout.Layout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.history); n == 0 || s.history[n-1].Generation != l.Generation {
		s.history = append(s.history, l)
	}
}

func (s *simulator) reportFor(ctx context.Context, rn *v1alpha1.RegistryNode, l layout.Layout) error {
	s.mu.Lock()
	silent, preflight, words := s.silent[rn.Name], s.nodes[rn.Name], s.messages[rn.Name]
	s.mu.Unlock()
	if silent || len(rn.OwnerReferences) == 0 {
		return nil
	}
	var node corev1.Node
	if err := s.c.Get(ctx, client.ObjectKey{Name: rn.Name}, &node); err != nil {
		return err
	}
	want := rn.DeepCopy()
	want.Status.NodeUID, want.Status.BootID = string(rn.OwnerReferences[0].UID), node.Status.NodeInfo.BootID
	want.Status.Preflight = "Ready"
	if preflight != "" {
		want.Status.Preflight = preflight
	}
	want.Status.Message = words
	if want.Status.LayoutSchema = layout.Newest; s.isOlder(rn.Name) {
		want.Status.LayoutSchema = 0
	}
	if !s.speaks(ctx, want) {
		return nil
	}
	restarted := s.restarted(want, l.Generation > 0, rn.Spec.Legacy)
	if l.Generation > want.Status.Generation && restarted {
		want.Status.Generation, want.Status.Version, want.Status.Legacy = l.Generation, l.Version(), false
	}
	if rn.Spec.Legacy && l.Generation == 0 && restarted {
		want.Status.Legacy = true
		want.Status.Generation, want.Status.Version = 0, ""
	}
	want.Status.Left = rn.Spec.Leave && l.Generation == 0 && (want.Status.Legacy || want.Status.Generation == 0)
	if equality.Semantic.DeepEqual(want.Status, rn.Status) {
		return nil
	}
	return s.c.Status().Update(ctx, want)
}

// deployments makes one pod of its newest template for each Deployment.
func (s *simulator) deployments(ctx context.Context, of ...client.ListOption) error {
	var list appsv1.DeploymentList
	if err := s.c.List(ctx, &list, of...); err != nil {
		return err
	}
	for i := range list.Items {
		d := &list.Items[i]
		if replicasOf(d) == 0 {
			gone := []client.DeleteAllOfOption{client.InNamespace(d.Namespace), client.MatchingLabels{"app": d.Name}, client.GracePeriodSeconds(0)}
			if err := s.c.DeleteAllOf(ctx, &corev1.Pod{}, gone...); err != nil {
				return err
			}
			continue
		}
		ok, err := s.pod(ctx, d.Namespace, d.Name, "", &d.Spec.Template, d.Name == v1alpha1.DeploymentProxy)
		if err != nil {
			return err
		}
		available := int32(0)
		if ok {
			available = replicasOf(d)
		}
		want := appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: replicasOf(d), UpdatedReplicas: replicasOf(d), AvailableReplicas: available, ReadyReplicas: available}
		if d.Status.ObservedGeneration != want.ObservedGeneration || d.Status.AvailableReplicas != want.AvailableReplicas || d.Status.UpdatedReplicas != want.UpdatedReplicas {
			d.Status = want
			if err := s.c.Status().Update(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func replicasOf(d *appsv1.Deployment) int32 { return int32(cluster.Replicas(d.Spec.Replicas)) }

func (s *simulator) daemonSets(ctx context.Context) error {
	var list appsv1.DaemonSetList
	if err := s.c.List(ctx, &list); err != nil {
		return err
	}
	var nodes corev1.NodeList
	if err := s.c.List(ctx, &nodes); err != nil {
		return err
	}
	for i := range list.Items {
		d := &list.Items[i]
		if isStoreSet(d) {
			continue
		}
		available := int32(0)
		if err := s.agentPods(ctx, d, nodes.Items); err != nil {
			return err
		}
		for j := range nodes.Items {
			template := &d.Spec.Template
			if cluster.WorkloadOf(d).TemplateOnly {
				template = nil
			}
			ok, err := s.pod(ctx, d.Namespace, d.Name, nodes.Items[j].Name, template, false)
			if err != nil {
				return err
			}
			if ok {
				available++
			}
		}
		n := int32(len(nodes.Items))
		if d.Status.ObservedGeneration != d.Generation || d.Status.NumberAvailable != available || d.Status.DesiredNumberScheduled != n {
			d.Status = appsv1.DaemonSetStatus{ObservedGeneration: d.Generation, DesiredNumberScheduled: n, CurrentNumberScheduled: n, UpdatedNumberScheduled: n, NumberAvailable: available, NumberReady: available}
			if err := s.c.Status().Update(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// pod makes one pod of the template and deletes older ones. With a nil template it
// does nothing.
func (s *simulator) pod(ctx context.Context, namespace, workload, node string, template *corev1.PodTemplateSpec, isProxy bool) (ready bool, err error) {
	s.mu.Lock()
	stuck := s.stuck[workload]
	s.mu.Unlock()
	if template == nil {
		return true, nil
	}
	var pods corev1.PodList
	if err := s.c.List(ctx, &pods, client.InNamespace(namespace), client.MatchingLabels{"app": workload}); err != nil {
		return false, err
	}
	name := strings.TrimSuffix(workload+"-"+node, "-") + "-" + fingerprint(template)
	found := false
	for i := range pods.Items {
		pod := &pods.Items[i]
		switch {
		case pod.Name == name:
			found = true
			if excerpt.PodReady(pod) == stuck {
				return !stuck, s.podStatus(ctx, pod, stuck)
			}
		case node == "" || strings.HasPrefix(pod.Name, workload+"-"+node+"-"):
			if !stuck { // the old pod stays until the new one runs
				if err := s.c.Delete(ctx, pod, client.GracePeriodSeconds(0)); err != nil {
					return false, err
				}
			}
		}
	}
	if found {
		return !stuck, nil
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: template.Labels}, Spec: *template.Spec.DeepCopy()}
	pod.Spec.NodeName = node
	pod.Spec.PriorityClassName = ""
	if isProxy {
		pod.Annotations = map[string]string{v1alpha1.AnnotationGeneration: strconv.FormatInt(s.table.Generation(), 10)}
	}
	if err := s.c.Create(ctx, pod); err != nil {
		return false, err
	}
	s.mu.Lock()
	s.restarts[workload]++
	s.mu.Unlock()
	return !stuck, s.podStatus(ctx, pod, stuck)
}

func (s *simulator) podStatus(ctx context.Context, pod *corev1.Pod, stuck bool) error {
	if stuck {
		return kubelet.Report(ctx, s.c, pod, kubelet.Fate{Waiting: kubelet.ImagePullBackOff})
	}
	return kubelet.Report(ctx, s.c, pod, kubelet.Fate{})
}

func fingerprint(template *corev1.PodTemplateSpec) string {
	h := fnv.New32a()
	for _, image := range excerpt.Images(&template.Spec) {
		_, _ = h.Write([]byte(image))
	}
	_, _ = h.Write([]byte(template.Annotations[v1alpha1.AnnotationRegistryChecksum]))
	return hex.EncodeToString(h.Sum(nil))
}

// gateway is the in-cluster proxy: it loads its Secret and reports on its Pod.
func (s *simulator) gateway(ctx context.Context) error {
	var secret corev1.Secret
	if err := s.c.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.SecretProxy}, &secret); err != nil {
		return err
	}
	l, err := layout.Decode(secret.Data[v1alpha1.KeyProxyLayout])
	if err != nil {
		return err
	}
	reads, serves := strconv.Itoa(layout.Newest), l.Generation
	if s.isOlder(v1alpha1.DeploymentProxy) {
		if reads = ""; isCompact(secret.Data[v1alpha1.KeyProxyLayout]) {
			l, serves = layout.Layout{}, s.table.Generation() // it keeps what it has
		}
	}
	var list []regauth.User
	if err := yaml.Unmarshal(secret.Data[v1alpha1.KeyProxyUsers], &list); err != nil {
		return err
	}
	users, err := regauth.NewUsers(list)
	if err != nil {
		return err
	}
	if err := s.leaf.Set(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err != nil {
		return err
	}
	s.users.Store(users)
	if l.Generation > 0 {
		if err := s.table.Swap(l); err != nil {
			return err
		}
	}
	generation := strconv.FormatInt(serves, 10)
	var pods corev1.PodList
	if err := s.c.List(ctx, &pods, client.InNamespace(v1alpha1.Namespace), client.MatchingLabels{"app": v1alpha1.DeploymentProxy}); err != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		says := map[string]string{
			v1alpha1.AnnotationGeneration:   generation,
			v1alpha1.AnnotationLayoutSchema: reads,
			v1alpha1.AnnotationIdentity:     regauth.Fingerprint(secret.Data[v1alpha1.KeyProxyUsers], secret.Data[corev1.TLSCertKey]),
		}
		if cluster.Contains(pod.Annotations, says) {
			continue
		}
		for name, value := range says {
			cluster.SetAnnotation(pod, name, value)
		}
		if err := s.c.Update(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}
