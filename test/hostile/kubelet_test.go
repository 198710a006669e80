package hostile

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/gateway"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/kubelet"
	"github.com/d8-registry/registry/test/harness/loopback"
)

// missing is part of the name of each image that is nowhere.
const missing = "nope"

// kubelets play what makes a switch of a cluster come to its end: real controllers
// of workloads and a real scheduler, the real in-cluster proxy, and what kubelets
// say about Pods.
type kubelets struct {
	c     *cluster
	proxy string // the Pod whose proxy runs
	stop  func()
}

// runPods is for a cluster that is not started yet.
func (c *cluster) runPods() {
	c.t.Helper()
	apiserver.StartControllers(c.t, c.api)
	var nodes corev1.NodeList
	if err := c.List(c.t.Context(), &nodes); err != nil {
		c.t.Fatal(err)
	}
	for i := range nodes.Items {
		c.Schedulable(&nodes.Items[i])
	}
	c.proxy = loopback.Address(c.t)
	k := &kubelets{c: c, stop: func() {}}
	installation.Background(c.t, func(ctx context.Context) error {
		defer func() { k.stop() }()
		for ; ctx.Err() == nil; installation.Pause(30 * time.Millisecond) {
			if err := k.work(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// work says of each Pod how it fares. Those whose image is nowhere wait for it.
func (k *kubelets) work(ctx context.Context) error {
	var pods corev1.PodList
	if err := k.c.List(ctx, &pods); err != nil {
		return err
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		var err error
		switch nowhere := strings.Contains(pod.Spec.Containers[0].Image, missing); {
		case pod.Spec.NodeName == "":
		case pod.DeletionTimestamp != nil:
			err = kubelet.Remove(ctx, k.c.Client, pod)
		case nowhere && len(pod.Status.ContainerStatuses) == 0:
			err = kubelet.Report(ctx, k.c.Client, pod, kubelet.Fate{Waiting: kubelet.ImagePullBackOff})
		case !nowhere && !kubelet.Ready(pod):
			k.runProxy(ctx, pod)
			err = kubelet.Report(ctx, k.c.Client, pod, kubelet.Fate{})
		}
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// runProxy runs the in-cluster proxy of its newest Pod.
func (k *kubelets) runProxy(ctx context.Context, pod *corev1.Pod) {
	if pod.Labels["app"] != v1alpha1.DeploymentProxy || pod.Name == k.proxy {
		return
	}
	k.stop()
	cfg := gateway.Config{Kubeconfig: apiserver.Kubeconfig(k.c.t, k.c.api.Config()), Listen: k.c.proxy, Health: "127.0.0.1:0", Namespace: pod.Namespace, Pod: pod.Name,
		Secret: v1alpha1.SecretProxy, Drain: time.Second, ReportEvery: time.Minute}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() {
		if err := gateway.Run(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil && ctx.Err() == nil {
			k.c.t.Errorf("in-cluster proxy: %v", err)
		}
	})
	k.proxy, k.stop = pod.Name, sync.OnceFunc(func() { cancel(); running.Wait() })
}

// delete deletes an object by name.
func (c *cluster) delete(o client.Object) {
	c.t.Helper()
	if err := c.Delete(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}
