package cluster

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Snapshot is what was read of the cluster in one pass. Objects come from a
// shared cache: copy them before changing them. Who writes one of the fields'
// objects puts the new one here, so that what follows in the pass sees it.
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
// user who deleted them.
func Take(ctx context.Context, c *Client) (*Snapshot, error) {
	s := &Snapshot{}
	var err error
	if s.Layout, err = c.liveSecret(ctx, v1alpha1.SecretLayout); err != nil {
		return nil, err
	}
	if s.Registry, err = c.liveSecret(ctx, v1alpha1.SecretRegistry); err != nil {
		return nil, err
	}
	if s.Inventory, err = c.takeInventory(ctx, c.Client, false); err != nil {
		return nil, err
	}
	if s.Address, err = c.readAddress(ctx); err != nil {
		return nil, err
	}
	return s, s.readOthers(ctx, c)
}

func (s *Snapshot) readOthers(ctx context.Context, c *Client) error {
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	s.Nodes = nodes.Items
	s.RegistryNodes = make(map[string]*v1alpha1.RegistryNode, len(s.Inventory.RegistryNodes))
	for i := range s.Inventory.RegistryNodes {
		s.RegistryNodes[s.Inventory.RegistryNodes[i].Name] = &s.Inventory.RegistryNodes[i]
	}
	var secrets corev1.SecretList
	if err := c.List(ctx, &secrets, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list secrets: %w", err)
	}
	s.Secrets = make(map[client.ObjectKey]*corev1.Secret, len(secrets.Items))
	for i := range secrets.Items {
		s.Secrets[client.ObjectKeyFromObject(&secrets.Items[i])] = &secrets.Items[i]
	}
	var services corev1.ServiceList
	if err := c.List(ctx, &services, client.InNamespace(v1alpha1.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	s.Services = make(map[client.ObjectKey]*corev1.Service, len(services.Items))
	for i := range services.Items {
		s.Services[client.ObjectKeyFromObject(&services.Items[i])] = &services.Items[i]
	}
	return nil
}

// readAddress asks the API server: the cache holds only ConfigMaps that users
// label for us.
func (c *Client) readAddress(ctx context.Context) (*corev1.ConfigMap, error) {
	var address corev1.ConfigMap
	err := c.Live.Get(ctx, own(v1alpha1.ConfigMapImageAddress), &address)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("read image address: %w", err)
	}
	return &address, nil
}

func (c *Client) liveSecret(ctx context.Context, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := c.Live.Get(ctx, own(name), &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	return &secret, nil
}

func own(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: v1alpha1.Namespace, Name: name}
}

// OwnSecret is a Secret of d8-system by name; nil when absent.
func (s *Snapshot) OwnSecret(name string) *corev1.Secret { return s.Secrets[own(name)] }

// OwnService is a Service of d8-system by name; nil when absent.
func (s *Snapshot) OwnService(name string) *corev1.Service { return s.Services[own(name)] }

// OwnDeployment is a Deployment of d8-system by name; nil when absent.
func (s *Snapshot) OwnDeployment(name string) *appsv1.Deployment {
	for i := range s.Inventory.Deployments {
		if d := &s.Inventory.Deployments[i]; d.Namespace == v1alpha1.Namespace && d.Name == name {
			return d
		}
	}
	return nil
}

// OwnDaemonSet is a DaemonSet of d8-system by name; nil when absent.
func (s *Snapshot) OwnDaemonSet(name string) *appsv1.DaemonSet {
	for i := range s.Inventory.DaemonSets {
		if ds := &s.Inventory.DaemonSets[i]; ds.Namespace == v1alpha1.Namespace && ds.Name == name {
			return ds
		}
	}
	return nil
}
