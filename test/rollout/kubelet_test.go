package rollout

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/d8-registry/registry/api/registry/v1alpha1"
	"github.com/d8-registry/registry/internal/datapath/gateway"
	"github.com/d8-registry/registry/test/harness/apiserver"
	"github.com/d8-registry/registry/test/harness/installation"
	"github.com/d8-registry/registry/test/harness/kubelet"
)

// The annotation of a pod template that says how its Pods fare, and its values.
const (
	annotationFate = "test/fate"
	fateBroken     = "broken"       // no Pod is ever ready
	fateBrokenOn   = "broken-on-w1" // those on w1 are not
	fateSlow       = "slow"         // takes a second
)

// startDelay is how long a Pod takes from its node to Ready.
const startDelay = 150 * time.Millisecond

// kubelets are those of all nodes. The in-cluster proxy really runs.
type kubelets struct {
	t      *testing.T
	client client.WithWatch
	proxy  string // where the in-cluster proxy listens
	config string // a kubeconfig

	mu      sync.Mutex
	noImage string // the app whose new Pods cannot pull
	stop    map[string]context.CancelFunc
	ended   chan struct{} // closed when the last proxy has
	running sync.WaitGroup
}

func startKubelets(t *testing.T, api *apiserver.API, c client.WithWatch, proxy string) *kubelets {
	t.Helper()
	k := &kubelets{t: t, client: c, proxy: proxy, config: apiserver.Kubeconfig(t, api.Config()), stop: map[string]context.CancelFunc{}}
	installation.Background(t, func(ctx context.Context) error {
		defer k.running.Wait()
		return watchAll(ctx, c, &corev1.PodList{}, func(o client.Object, deleted bool) {
			if pod, ok := o.(*corev1.Pod); ok {
				k.sync(ctx, pod, deleted)
			}
		})
	})
	return k
}

// failPulls makes new Pods of an app fail to pull the fixed address; "" heals.
func (k *kubelets) failPulls(app string) {
	k.mu.Lock()
	k.noImage = app
	k.mu.Unlock()
	if app != "" {
		return
	}
	var pods corev1.PodList
	if err := k.client.List(k.t.Context(), &pods); err != nil {
		k.t.Fatal(err)
	}
	for i := range pods.Items {
		k.sync(k.t.Context(), &pods.Items[i], false)
	}
}

// sync does for one Pod what its kubelet would do next.
func (k *kubelets) sync(ctx context.Context, pod *corev1.Pod, deleted bool) {
	switch {
	case deleted:
		k.stopProxy(pod)
	case pod.Spec.NodeName == "" || pod.Spec.NodeName == lost:
	case pod.DeletionTimestamp != nil:
		k.after(ctx, startDelay/3, func() error {
			return kubelet.Remove(ctx, k.client, pod)
		})
	case pod.Status.Phase == "" || pod.Status.Phase == corev1.PodPending:
		delay := startDelay
		if pod.Annotations[annotationFate] == fateSlow {
			delay = time.Second
		}
		k.after(ctx, delay, func() error { return k.started(ctx, pod) })
	}
}

// after does something later. That the Pod has changed or gone meanwhile is no
// error: its next event comes.
func (k *kubelets) after(ctx context.Context, delay time.Duration, do func() error) {
	k.running.Go(func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := do(); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			k.t.Errorf("kubelet: %v", err)
		}
	})
}

func (k *kubelets) started(ctx context.Context, pod *corev1.Pod) error {
	k.mu.Lock()
	noImage := k.noImage != "" && pod.Labels["app"] == k.noImage && strings.HasPrefix(pod.Spec.Containers[0].Image, "registry.d8-system.svc")
	k.mu.Unlock()
	waiting := ""
	switch fate := pod.Annotations[annotationFate]; {
	case noImage:
		waiting = kubelet.ImagePullBackOff
		if len(pod.Status.ContainerStatuses) > 0 {
			return nil // it says so already
		}
	case fate == fateBroken, fate == fateBrokenOn && pod.Spec.NodeName == "w1":
		waiting = kubelet.CrashLoopBackOff
	default:
		k.startProxy(ctx, pod)
	}
	return kubelet.Report(ctx, k.client, pod, kubelet.Fate{Waiting: waiting})
}

// startProxy runs the in-cluster proxy in a Pod of its.
func (k *kubelets) startProxy(ctx context.Context, pod *corev1.Pod) {
	if pod.Labels["app"] != v1alpha1.DeploymentProxy {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stop[pod.Name] != nil {
		return
	}
	for _, stop := range k.stop { // they have one address between them
		stop()
	}
	before, ended := k.ended, make(chan struct{})
	k.ended = ended
	ctx, k.stop[pod.Name] = context.WithCancel(ctx)
	k.running.Go(func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		cfg := gateway.Config{Kubeconfig: k.config, Listen: k.proxy, Health: "127.0.0.1:0", Namespace: pod.Namespace, Pod: pod.Name,
			Secret: v1alpha1.SecretProxy, Drain: time.Second, ReportEvery: time.Minute}
		if err := gateway.Run(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil && ctx.Err() == nil {
			k.t.Errorf("in-cluster proxy: %v", err)
		}
	})
}

func (k *kubelets) stopProxy(pod *corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if stop := k.stop[pod.Name]; stop != nil {
		stop()
		delete(k.stop, pod.Name)
	}
}
