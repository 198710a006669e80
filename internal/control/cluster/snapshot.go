package cluster

import (
	"context"
	"fmt"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Snapshot is what was read of the cluster in one pass. Objects come from a
// shared cache: copy them before changing them. Of what a pass writes only Layout
// and Registry are replaced here, so that what follows sees them; the rest is seen
// by the next pass.
type Snapshot struct {
	Layout        *corev1.Secret // registry-bashible-config, from the API server; nil when absent
	Registry      *corev1.Secret // deckhouse-registry, likewise
	Nodes         []corev1.Node
	RegistryNodes map[string]*v1alpha1.RegistryNode    // by name of the node
	Secrets       map[client.ObjectKey]*corev1.Secret  // those of d8-system, and every deckhouse-registry
	Services      map[client.ObjectKey]*corev1.Service // those of d8-system
	Address       *corev1.ConfigMap                    // registry-image-address; nil when absent
	Inventory     *Inventory
}

// Take reads the cluster. The two Secrets whose absence means something are
// read from the API server itself: a cache that is behind would look like a
// user who deleted them. So is the ConfigMap: the cache holds only those that
// users label for us.
func Take(ctx context.Context, c *Client) (*Snapshot, error) {
	s := &Snapshot{}
	var err error
	if s.Layout, err = Get[corev1.Secret](ctx, c.Live, Here(v1alpha1.SecretLayout)); err != nil {
		return nil, err
	}
	if s.Registry, err = Get[corev1.Secret](ctx, c.Live, Here(v1alpha1.SecretRegistry)); err != nil {
		return nil, err
	}
	if s.Address, err = Get[corev1.ConfigMap](ctx, c.Live, Here(v1alpha1.ConfigMapImageAddress)); err != nil {
		return nil, err
	}
	l := &lister{ctx: ctx, from: c.Client, held: c.Cache}
	if s.Inventory, err = c.takeInventory(l, false); err != nil {
		return nil, err
	}
	s.RegistryNodes = ByNode(s.Inventory.RegistryNodes)
	var secrets []corev1.Secret
	var services []corev1.Service
	every(l, &s.Nodes, &corev1.NodeList{})
	every(l, &secrets, &corev1.SecretList{})
	every(l, &services, &corev1.ServiceList{}, client.InNamespace(v1alpha1.Namespace))
	s.Secrets, s.Services = byKey(secrets), byKey(services)
	return s, l.err
}

// ByNode are RegistryNodes by the name of their node.
func ByNode(all []v1alpha1.RegistryNode) map[string]*v1alpha1.RegistryNode {
	m := make(map[string]*v1alpha1.RegistryNode, len(all))
	for i := range all {
		m[all[i].Name] = &all[i]
	}
	return m
}

// Get reads one object; nil when there is none.
func Get[T any, P interface {
	*T
	client.Object
}](ctx context.Context, from client.Reader, key client.ObjectKey) (P, error) {
	object := P(new(T))
	err := from.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("read %s %s: %w", reflect.TypeFor[T]().Name(), key.Name, err)
	}
	return object, nil
}

func byKey[T any, P interface {
	*T
	client.Object
}](items []T) map[client.ObjectKey]P {
	m := make(map[client.ObjectKey]P, len(items))
	for i := range items {
		m[client.ObjectKeyFromObject(P(&items[i]))] = &items[i]
	}
	return m
}

// OwnSecret is a Secret of d8-system by name; nil when absent.
func (s *Snapshot) OwnSecret(name string) *corev1.Secret { return s.Secrets[Here(name)] }

// OwnService is a Service of d8-system by name; nil when absent.
func (s *Snapshot) OwnService(name string) *corev1.Service { return s.Services[Here(name)] }
