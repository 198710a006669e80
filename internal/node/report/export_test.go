package report

import (
	"context"
	"log/slog"

	"k8s.io/client-go/dynamic"

	registryv1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Beat is one heartbeat.
func Beat(ctx context.Context, h Heartbeat, own *registryv1alpha1.RegistryNode) error {
	return h.beat(ctx, own)
}

// Write writes a status as an agent does.
func Write(ctx context.Context, kube dynamic.Interface, own *registryv1alpha1.RegistryNode, status map[string]any) error {
	_, err := New(Options{Kube: kube, Node: own.Name, Log: slog.New(slog.DiscardHandler)}).apply(ctx, own, status)
	return err
}
