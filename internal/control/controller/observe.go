package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/control/precheck"
	"github.com/d8-registry/registry/internal/control/switchover"
	"github.com/d8-registry/registry/internal/layout"
)

// sight is one look at the cluster: the World, and the objects behind it that
// apply compares with and writes to. Objects come from a shared cache: copy
// them before changing them.
type sight struct {
	world switchover.Observed

	layoutSecret   *corev1.Secret // as read from the API server; nil when absent
	registrySecret *corev1.Secret // likewise
	nodes          []corev1.Node
	registryNodes  map[string]*v1alpha1.RegistryNode
	secrets        map[client.ObjectKey]*corev1.Secret // ours, and every deckhouse-registry
	proxy          *appsv1.Deployment
	service        *corev1.Service
	address        *corev1.ConfigMap // registry-image-address; nil when absent
	inv            *inventory
	progress       progress
	held           map[string]error // namespaces that refused their pull secret in this pass

	// again is whether something outside the cluster should be asked again
	// although no object will change: a registry, or the proxy.
	again bool
	// later is in how long a close look that was put off is due.
	later time.Duration
}

// observe looks at the cluster. What is about progress is measured against the
// stored document, so that nothing counts as done by the pass that asks for it.
func (r *Reconciler) observe(ctx context.Context, st stored) (*sight, error) {
	s := &sight{}
	if err := r.read(ctx, s); err != nil {
		return nil, err
	}
	wish, err := r.wish(ctx)
	if err != nil {
		return nil, err
	}
	w := &s.world
	w.Now, w.Settings, w.Spec = r.now(), r.cfg.Settings, wish
	w.Installation, w.InstallationProblem = installation(s.registrySecret)
	w.Published = published(s.layoutSecret)
	w.ProxyPublished = layoutIn(s.own(v1alpha1.SecretProxy), v1alpha1.KeyProxyLayout)
	w.Nodes = r.observeNodes(s, w.Now)
	w.Check = r.checker.Report()
	bases := knownBases(st.document, w)
	r.bases.Store(&bases)
	w.Census = r.census(s.inv, bases, st.document)
	r.observeProxy(ctx, s, st.document)
	s.progress = r.measure(s, st.document)
	w.Platform = s.progress.platform(st.document)
	if r.trouble != "" && !w.Platform.Moved {
		w.Platform.Message += "\n" + r.trouble
	}
	if r.protocol.NeedsLive(st.State, *w) {
		if wait, why := r.look.pause(st.document, w.Now); wait > 0 {
			s.later, w.Census.Problem = wait, why
			return s, nil
		}
		return s, r.lookLive(ctx, s, st.document, bases)
	}
	return s, nil
}

// lookLive is what Final believes: LISTs past every cache, and then a fresh
// check of the target over exactly the references found there.
func (r *Reconciler) lookLive(ctx context.Context, s *sight, doc document, bases []layout.Name) error {
	inv, err := takeInventory(ctx, r.live, true)
	if err != nil {
		return err
	}
	s.world.Census = r.census(inv, bases, doc)
	request := r.protocol.CheckRequest(doc.State, s.world)
	if request.IsZero() || s.world.Census.Problem != "" {
		return nil
	}
	s.world.FinalCheck = r.check.Check(ctx, r.checkRequest(request, s, inv))
	s.again = s.world.FinalCheck.At.IsZero()
	return nil
}

// checkRequest completes a request with what only the cluster knows.
func (r *Reconciler) checkRequest(req switchover.CheckRequest, s *sight, inv *inventory) precheck.Request {
	if req.IsZero() {
		return precheck.Request{}
	}
	var architectures []string
	for i := range s.nodes {
		if a := s.nodes[i].Status.NodeInfo.Architecture; a != "" && wantsAgent(&s.nodes[i]) {
			architectures = append(architectures, a)
		}
	}
	slices.Sort(architectures)
	return precheck.Request{
		Fingerprint:   req.Fingerprint(),
		Upstream:      req.Upstream,
		Images:        req.Images,
		Sources:       r.sources(inv, s.world.Census),
		Architectures: slices.Compact(architectures),
	}
}

// read fetches objects. The two Secrets whose absence means something are read
// from the API server itself: a cache that is behind would look like a user
// who deleted them.
func (r *Reconciler) read(ctx context.Context, s *sight) (err error) {
	if s.layoutSecret, err = r.liveSecret(ctx, v1alpha1.SecretLayout); err != nil {
		return err
	}
	if s.registrySecret, err = r.liveSecret(ctx, v1alpha1.SecretRegistry); err != nil {
		return err
	}
	if s.inv, err = takeInventory(ctx, r.client, false); err != nil {
		return err
	}
	var nodes corev1.NodeList
	if err := r.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	s.nodes = nodes.Items
	var registryNodes v1alpha1.RegistryNodeList
	if err := r.client.List(ctx, &registryNodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list registry nodes: %w", err)
	}
	s.registryNodes = make(map[string]*v1alpha1.RegistryNode, len(registryNodes.Items))
	for i := range registryNodes.Items {
		s.registryNodes[registryNodes.Items[i].Name] = &registryNodes.Items[i]
	}
	var secrets corev1.SecretList
	if err := r.client.List(ctx, &secrets, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list secrets: %w", err)
	}
	s.secrets = make(map[client.ObjectKey]*corev1.Secret, len(secrets.Items))
	for i := range secrets.Items {
		s.secrets[client.ObjectKeyFromObject(&secrets.Items[i])] = &secrets.Items[i]
	}
	if err := r.readAddress(ctx, s); err != nil {
		return err
	}
	return r.readProxy(ctx, s)
}

// readAddress asks the API server: the cache holds only ConfigMaps that users
// label for us.
func (r *Reconciler) readAddress(ctx context.Context, s *sight) error {
	var address corev1.ConfigMap
	err := r.live.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.ConfigMapImageAddress}, &address)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read image address: %w", err)
	}
	s.address = &address
	return nil
}

func (r *Reconciler) readProxy(ctx context.Context, s *sight) error {
	for i := range s.inv.deployments {
		if d := &s.inv.deployments[i]; d.Namespace == v1alpha1.Namespace && d.Name == v1alpha1.DeploymentProxy {
			s.proxy = d
		}
	}
	var service corev1.Service
	err := r.client.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: v1alpha1.ServiceRegistry}, &service)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read service registry: %w", err)
	}
	s.service = &service
	return nil
}

func (r *Reconciler) liveSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := r.live.Get(ctx, client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return &secret, nil
}

// published reads the agents' layout back as it lies in the cluster.
func published(secret *corev1.Secret) switchover.Published {
	return layoutIn(secret, v1alpha1.KeyLayout)
}

func layoutIn(secret *corev1.Secret, key string) switchover.Published {
	if secret == nil {
		return switchover.Published{}
	}
	l, err := layout.Decode(secret.Data[key])
	if err != nil {
		return switchover.Published{Found: true, Problem: err.Error()}
	}
	return switchover.Published{Found: true, Layout: l}
}

// knownBases are all names that a reference may start with: those handed out,
// and those that will be added to them.
func knownBases(doc document, w *switchover.Observed) []layout.Name {
	bases := append(doc.KnownNames(), layout.Fixed())
	bases = append(bases, w.Published.Layout.Names()...)
	if !w.Installation.IsZero() {
		bases = append(bases, layout.NameOf(w.Installation))
	}
	slices.SortFunc(bases, layout.Name.Compare)
	return slices.Compact(bases)
}
