package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
)

// Owner is the field manager of everything that the controller writes.
const Owner = client.FieldOwner(v1alpha1.ManagedBy)

// ErrLost says that somebody else wrote first. The pass ends; the next one
// sees what they wrote.
var ErrLost = errors.New("somebody else wrote first")

// Client is how the control side reads and writes, and whom it tells. Its zero
// value, with a Log, serves tests that reach no API server.
type Client struct {
	client.Client               // reads from caches
	Live          client.Reader // reads from the API server
	// Raw reads long lists from it; nil for a Client whose Live reads them.
	Raw *Raw
	// Cache is that of Client; nil for a Client that reads from the API server.
	Cache  cache.Informers
	Events Events
	// Whose says which workloads are whose.
	Whose Selection
	// Names are those that watches look for.
	Names *KnownNames
	// Wake asks for another pass. It never blocks.
	Wake func()
	Now  func() time.Time
	// Clock is the API server's.
	Clock *Clock
	Log   *slog.Logger
}

// Refusal is the API server's answer if it refused a write; nil if it was only busy
// or could not be reached.
func Refusal(err error) *metav1.Status {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return nil
	}
	status := answer.Status()
	if status.Code < http.StatusBadRequest || status.Code >= http.StatusInternalServerError ||
		slices.Contains([]int32{http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests}, status.Code) {
		return nil
	}
	return &status
}

// Connection is how the API server is reached: with a configuration, else by a
// kubeconfig, and without either as the pod's own ServiceAccount. Agent is the
// program's name in the API server's log.
func Connection(config *rest.Config, kubeconfig, agent string) (*rest.Config, error) {
	if config == nil {
		var err error
		if config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
			return nil, fmt.Errorf("read kubeconfig %q: %w", kubeconfig, err)
		}
	}
	config = rest.CopyConfig(config)
	config.UserAgent = agent
	return config, nil
}

// Put creates an object that has no resource version, and updates any other. An
// update is conditional on what was seen: the error is ErrLost if somebody else
// wrote.
func (c *Client) Put(ctx context.Context, object client.Object) error {
	var err error
	if object.GetResourceVersion() == "" {
		err = c.Create(ctx, object)
	} else {
		err = c.Update(ctx, object)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return ErrLost
	}
	return err //nolint:wrapcheck // the callers say which object
}

// PutData makes one of our own Secrets in d8-system say exactly this.
func (c *Client) PutData(ctx context.Context, s *Snapshot, name string, kind corev1.SecretType, data map[string][]byte) error {
	have := s.OwnSecret(name)
	if have != nil && SameData(have.Data, data) && Contains(have.Labels, Ours()) {
		return nil
	}
	secret := SecretToWrite(have, name, kind)
	SetLabels(secret, Ours())
	secret.Data = data
	if err := c.Put(ctx, secret); err != nil {
		return fmt.Errorf("write secret %s: %w", name, err)
	}
	return nil
}

// ApplyOwn writes one of our own objects by server-side apply: whatever others
// changed of these fields is put back.
func (c *Client) ApplyOwn(ctx context.Context, object client.Object, kind schema.GroupVersionKind) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", kind.Kind, Key(object), err)
	}
	delete(fields, "status")
	unstructured.RemoveNestedField(fields, "metadata", "creationTimestamp")
	u := &unstructured.Unstructured{Object: fields}
	u.SetGroupVersionKind(kind)
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), Owner, client.ForceOwnership); err != nil {
		return fmt.Errorf("apply %s %s: %w", kind.Kind, Key(object), err)
	}
	return nil
}

// PatchSeen patches an object that was seen. The error is ErrLost if it has
// changed meanwhile or is gone.
func (c *Client) PatchSeen(ctx context.Context, seen client.Object, patch client.Patch, opts ...client.PatchOption) error {
	object, ok := seen.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no object", Key(seen))
	}
	err := c.Patch(ctx, object, patch, append(opts, Owner)...)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return ErrLost
	}
	return err //nolint:wrapcheck // the callers say which object
}

// DeleteSeen deletes the very object that was seen, and reports whether it did.
// One that is gone or was made anew meanwhile is no error: the cache is behind.
func (c *Client) DeleteSeen(ctx context.Context, seen client.Object, opts ...client.DeleteOption) (bool, error) {
	err := DeleteSeen(ctx, c, seen, opts...)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return false, nil
	}
	return err == nil, err
}

// DeleteSeen deletes the very object that was seen. The error is a conflict if
// another object has its name now.
func DeleteSeen(ctx context.Context, c client.Writer, seen client.Object, opts ...client.DeleteOption) error {
	object, ok := seen.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no object", Key(seen))
	}
	uid := seen.GetUID()
	return c.Delete(ctx, object, append(opts, client.Preconditions{UID: &uid})...) //nolint:wrapcheck // the callers say which object
}
