package controller

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/layout"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
)

// fleetAgents are an agent for each node, side by side. Each follows the layout and
// its own RegistryNode, as the real ones do, and reports a layout as soon as it comes.
type fleetAgents struct {
	client  client.WithWatch
	counted *counted
	// gate is locked while nobody may report; ready is how many would.
	gate  sync.RWMutex
	ready atomic.Int64
}

func (c *testbed) startAgents(nodes []string) *fleetAgents {
	c.t.Helper()
	a := &fleetAgents{counted: &counted{writes: map[string]int{}}}
	// As a ServiceAccount: an administrator's requests go before all others, and would
	// keep the controller from renewing its lease.
	const account = "agents-of-a-large-cluster"
	config := c.api.As(c.t, apiserver.Process{ServiceAccount: account})
	c.Make(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: account},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: v1alpha1.Namespace, Name: account}},
	})
	config.QPS = -1
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		a.counted.next = next
		return a.counted
	}
	var err error
	if a.client, err = client.NewWithWatch(config, client.Options{Scheme: c.api.Scheme()}); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	for _, node := range nodes {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := a.session(ctx, node); err != nil && ctx.Err() == nil {
					c.t.Logf("agent of %s: %v", node, err)
					installation.Pause(time.Second)
				}
			}
		})
	}
	c.t.Cleanup(func() { cancel(); running.Wait() })
	return a
}

// session follows both until a watch ends.
func (a *fleetAgents) session(ctx context.Context, node string) error {
	layouts, err := a.client.Watch(ctx, &corev1.SecretList{}, client.InNamespace(v1alpha1.Namespace), client.MatchingFields{"metadata.name": v1alpha1.SecretLayout})
	if err != nil {
		return err
	}
	defer layouts.Stop()
	own, err := a.client.Watch(ctx, &v1alpha1.RegistryNodeList{}, client.MatchingFields{"metadata.name": node})
	if err != nil {
		return err
	}
	defer own.Stop()
	var l layout.Layout
	var rn *v1alpha1.RegistryNode
	for {
		select {
		case e, open := <-layouts.ResultChan():
			if !open {
				return nil
			}
			if secret, ok := e.Object.(*corev1.Secret); ok && e.Type != watch.Deleted {
				if l, err = layout.Decode(secret.Data[v1alpha1.KeyLayout]); err != nil {
					return err
				}
			}
		case e, open := <-own.ResultChan():
			if !open {
				return nil
			}
			if next, ok := e.Object.(*v1alpha1.RegistryNode); ok && (rn == nil || version(next) > version(rn)) {
				rn = next // not what it has overwritten itself
			}
		case <-ctx.Done():
			return nil
		}
		if rn == nil {
			continue
		}
		if rn, err = a.report(ctx, rn, l); err != nil {
			return err
		}
	}
}

func version(rn *v1alpha1.RegistryNode) int {
	n, _ := strconv.Atoi(rn.ResourceVersion)
	return n
}

// report makes a report, unless it was made. After a conflict the watch brings what
// was written.
func (a *fleetAgents) report(ctx context.Context, rn *v1alpha1.RegistryNode, l layout.Layout) (*v1alpha1.RegistryNode, error) {
	want := rn.DeepCopy()
	want.Status.NodeUID, want.Status.BootID = string(rn.OwnerReferences[0].UID), "boot-of-"+rn.Name
	want.Status.Preflight, want.Status.LayoutSchema = "Ready", layout.Newest
	if l.Generation > want.Status.Generation {
		want.Status.Generation, want.Status.Version = l.Generation, l.Version()
	}
	if equality.Semantic.DeepEqual(want.Status, rn.Status) {
		return rn, nil
	}
	a.ready.Add(1)
	a.gate.RLock()
	defer a.gate.RUnlock()
	err := a.client.Status().Update(ctx, want)
	if apierrors.IsConflict(err) {
		return rn, nil
	}
	return want, err
}
